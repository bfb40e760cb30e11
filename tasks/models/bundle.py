"""A model on disk: a folder with `model.safetensors` (the weights) and `model.json` (all else). No code, no pickles."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tasks.files import read_json, write_json
from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.models.transform import Transform
from tasks.models.weights import fill

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


def save_bundle(folder: Path, model: Classifier, *, lineage: dict[str, Any]) -> None:
    """Write a classifier (or a backbone: a classifier without targets) and where it came from into `folder`."""
    save_file({name: tensor.contiguous() for name, tensor in sorted(model.state_dict().items())}, folder / WEIGHTS)
    backbone = model.backbone
    write_json(
        folder / DESCRIPTION,
        {
            "architecture": backbone.architecture,
            "features": backbone.features,
            "transform": backbone.transform.to_dict(),
            "classes": model.classes,
            "hidden_features": model.hidden_features,
            "temperatures": model.temperatures,
            "lineage": lineage,
        },
    )


def load_bundle(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """The classifier, in evaluation mode, and its lineage. Raises ValueError where the bundle is not whole."""
    description = read_json(folder / DESCRIPTION)
    try:
        backbone = Backbone(
            description["architecture"],
            features=description["features"],
            transform=Transform.from_dict(description["transform"]),
        )
        model = Classifier(
            backbone,
            description["classes"],
            # bundles of before there were either lack them
            hidden_features=description.get("hidden_features"),
            temperatures=description.get("temperatures"),
        )
        fill(model, load_file(folder / WEIGHTS), name="its weights", advice="they are of another model")
        return model.eval(), description["lineage"]
    except (KeyError, TypeError, ValueError, RuntimeError, FileNotFoundError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder} is not a whole bundle ({reason}): make it again, or `dvc checkout` it") from error


def versions() -> dict[str, str]:
    """What the numbers of a model depend on besides its data and params."""
    import torchvision

    return {"torch": torch.__version__, "torchvision": torchvision.__version__}
