"""Labelled images for the benchmarks of training: read a public set, keep pixels, labels and sides in a folder.

The images are decoded once. So no method pays for it, and all processes map the same pages of memory.
"""

import json
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.data.admission.options import Split
from tasks.data.admission.splits import side_of
from tasks.data.samples.samples import sample_id
from tasks.images.decode import decode_sample
from tasks.models.backbone import Backbone, Features
from tasks.models.options import Library
from tasks.models.weights import RANDOM, load_backbone

SHARED = Path(__file__).parents[3] / "shared"
SQUEEZENET = SHARED / "weights/squeezenet1_1-imagenet.safetensors"
GLYPHS = Path(__file__).parents[2] / "backbones/glyphs.safetensors"
SPLIT = Split(salt="transfer", val_fraction=0.0, heldout_fraction=0.2)  # for sets that have no test side

# the sides: labels are drawn from the pool; held-out images judge, and so do shifted ones, from another domain
POOL, HELDOUT, SHIFTED = range(3)

SideOf = Callable[[PurePath, bytes], int]  # path and content of a file -> its side


@dataclass(frozen=True, kw_only=True)
class Network:
    """A backbone, and the side of the square that it sees, in px."""

    architecture: str
    weights: str
    features: Features
    image_size: int
    library: Library = "torchvision"
    power: float = 1.0

    def load(self, *, is_pretrained: bool = True) -> Backbone:
        weights = self.weights if is_pretrained else RANDOM
        return load_backbone(
            self.architecture, weights=weights, library=self.library, features=self.features,
            image_size=self.image_size, power=self.power,
        )  # fmt: skip

    def at_depths(self) -> Self:
        """Return the network with square roots of features of several depths; SqueezeNet's end its quarters."""
        quarters = ["features.4", "features.7", "features.10", "features.12"]
        return replace(self, features=quarters if isinstance(self.features, str) else self.features, power=0.5)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A set of n labelled images, in the size that one network reads."""

    network: Network
    classes: list[str]
    pixels: NDArray[np.uint8]  # (n, 3, image_size, image_size)
    labels: NDArray[np.int64]  # (n,), indices into `classes`
    sides: NDArray[np.int64]  # (n,)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in ("pixels", "labels", "sides"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        about = {"network": asdict(self.network), "classes": self.classes}
        (folder / "about.json").write_text(json.dumps(about), "utf-8")

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the files of `save`. Only the pixels that are used get into memory."""
        about = json.loads((folder / "about.json").read_text("utf-8"))
        return cls(
            network=Network(**about["network"]),
            classes=about["classes"],
            pixels=np.load(folder / "pixels.npy", mmap_mode="c"),
            labels=np.load(folder / "labels.npy"),
            sides=np.load(folder / "sides.npy"),
        )


def squeezenet(image_size: int) -> Network:
    return Network(architecture="squeezenet1_1", weights=str(SQUEEZENET), features="penultimate", image_size=image_size)


def missing(tar: str) -> str | None:
    """Return why a set of the shared data cannot be measured; None if it can."""
    absent = [path for path in (SHARED / "data" / tar, SQUEEZENET) if not path.is_file()]
    return f"{absent[0].relative_to(SHARED.parent)} is missing" if absent else None


def read_digits() -> Labelled:
    """Return scikit-learn's handwritten digits for the glyph backbone."""
    from sklearn.datasets import load_digits

    parts = ["stage2", "stage3", "stage4", "conv5"]
    network = Network(architecture="shufflenet_v2_x1_0", weights=str(GLYPHS), features=parts, image_size=32)
    transform = network.load().transform
    data = load_digits()
    scans = [Image.fromarray(np.round(scan * (255 / 16)).astype(np.uint8)).convert("RGB") for scan in data.images]
    return Labelled(
        network=network,
        classes=[str(digit) for digit in range(10)],
        pixels=np.stack([transform.prepare(scan).numpy() for scan in scans]),
        labels=np.array(data.target),
        sides=np.array([side_by_content(PurePath(), scan.tobytes()) for scan in data.images]),
    )


def read_tar(tar: str, network: Network, side_of: SideOf, *, inside: str | None = None) -> Labelled:
    """Return the images in the class folders of a tar of the shared data; `inside` names a folder around them."""
    transform = network.load().transform
    pixels, names, sides = [], [], []
    with tarfile.open(SHARED / "data" / tar) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            file = archive.extractfile(member)
            path = PurePath(member.name)
            if file is None or (inside and inside not in path.parts):
                continue
            content = file.read()
            pixels.append(transform.prepare(decode_sample(content, shorter_side=2 * network.image_size)).numpy())
            names.append(path.parent.name)
            sides.append(side_of(path, content))
    classes, labels = np.unique(names, return_inverse=True)
    return Labelled(
        network=network, classes=classes.tolist(), pixels=np.stack(pixels), labels=labels, sides=np.array(sides)
    )


def side_by_content(path: PurePath, content: bytes) -> int:
    side = side_of(sample_id(content), SPLIT)
    return HELDOUT if side == "heldout" else POOL


def side_by_folder(path: PurePath, content: bytes) -> int:
    """Return the side of a file in a set that has a folder `test`."""
    return HELDOUT if "test" in path.parts else POOL
