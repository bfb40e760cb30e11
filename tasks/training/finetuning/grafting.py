"""Put trained heads on a backbone."""

from collections.abc import Mapping
from pathlib import Path

import torch

from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.models.words import Words
from tasks.targets.head import load_heads
from tasks.targets.kinds import declared_of, targets_of
from tasks.targets.target import Facts, Target
from tasks.text.words import load_vocabulary

WORD_OF = {"classes": "classes", "several": "labels", "ordinal": "steps"}


def graft(backbone: Backbone, head: Path, *, targets: Mapping[str, Target | Facts]) -> Classifier:
    """Return the backbone with the trained heads of the folder `head`, and the words that they read.

    Raises ValueError unless they have these targets, as declared, and take the features of the backbone.
    """
    heads, known = load_heads(head)
    targets = targets_of(targets)
    declared = declared_of(known), declared_of(targets)
    for target in sorted({*known, *targets}):
        if declared[0].get(target) != declared[1].get(target):
            raise ValueError(
                f"{head} knows {describe(known, target)}, the manifest has {describe(targets, target)}: "
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


def describe(targets: Mapping[str, Target], target: str) -> str:
    if target not in targets:
        return f"no target {target!r}"
    names = targets[target].names
    if not names:
        return f"the {targets[target].kind} {target}"
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"{len(names)} {WORD_OF[targets[target].kind]} of {target} ({shown})"
