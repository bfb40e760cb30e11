"""Put trained heads on a backbone."""

from pathlib import Path

import torch

from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.models.words import Words
from tasks.targets.head import load_heads
from tasks.text.words import load_vocabulary


def graft(backbone: Backbone, head: Path, *, classes: dict[str, list[str]]) -> Classifier:
    """Return the backbone with the trained heads of the folder `head`, and the words that they read.

    Raises ValueError unless they have these classes, by target, and take the features of the backbone.
    """
    heads, known = load_heads(head)
    for target in sorted({*classes, *known}):
        if known.get(target) != classes.get(target):
            raise ValueError(
                f"{head} knows {describe(known, target)}, the manifest has {describe(classes, target)}: "
                "run train_head again"
            )
    dims = {own.dim for own in heads.values()}
    if dims != {backbone.dim}:
        raise ValueError(
            f"{head} was trained on {', '.join(map(str, sorted(dims)))} features, the backbone gives {backbone.dim}: "
            "run train_head again"
        )
    vocabulary = load_vocabulary(head)
    layers = {target: own.words for target, own in heads.items() if own.words}
    model = Classifier(
        backbone,
        known,
        hidden_features=next((own.hidden_features for own in heads.values()), None),
        temperatures={target: own.temperature for target, own in heads.items()},
        words=Words.of(vocabulary, layers) if vocabulary else None,
    )
    model.graft(
        {
            target: [(torch.from_numpy(weight), torch.from_numpy(bias)) for weight, bias in own.layers]
            for target, own in heads.items()
        }
    )
    return model.eval()


def describe(classes: dict[str, list[str]], target: str) -> str:
    if target not in classes:
        return f"no target {target!r}"
    names = ", ".join(classes[target][:5]) + (", …" if len(classes[target]) > 5 else "")
    return f"{len(classes[target])} classes of {target} ({names})"
