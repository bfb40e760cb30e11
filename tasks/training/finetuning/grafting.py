"""Put trained heads on a backbone."""

from pathlib import Path

import torch

from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.targets.head import load_heads


def graft(backbone: Backbone, head: Path, *, classes: dict[str, list[str]]) -> Classifier:
    """The backbone with the trained heads of the folder `head`, which must be of these classes, by target."""
    heads, found = load_heads(head)
    for target in sorted({*classes, *found}):
        if found.get(target) != classes.get(target):
            raise ValueError(
                f"{head} knows {describe(found, target)}, the manifest has {describe(classes, target)}: run train_head again"
            )
    dims = {each.dim for each in heads.values()}
    if dims != {backbone.dim}:
        raise ValueError(
            f"{head} was trained on {', '.join(map(str, sorted(dims)))} features, the backbone gives {backbone.dim}: run train_head again"
        )
    model = Classifier(
        backbone,
        found,
        hidden_features=next((each.hidden_features for each in heads.values()), None),
        temperatures={target: each.temperature for target, each in heads.items()},
    )
    model.graft(
        {
            target: [(torch.from_numpy(weight), torch.from_numpy(bias)) for weight, bias in each.layers]
            for target, each in heads.items()
        }
    )
    return model.eval()


def describe(classes: dict[str, list[str]], target: str) -> str:
    if target not in classes:
        return f"no target {target!r}"
    names = ", ".join(classes[target][:5]) + (", …" if len(classes[target]) > 5 else "")
    return f"{len(classes[target])} classes of {target} ({names})"
