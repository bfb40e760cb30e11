"""Small files that would fill the memory, and the commands that read them; and the peak memory of a command.

`planted` makes a bomb in a folder, `measured` runs its command there, and `ordinary_peak_gib` is the memory of that
command without a bomb.
"""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.kit.small_project import ROOT, set_param
from tasks.models.bundle import DESCRIPTION, WEIGHTS, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.description import with_digest
from tasks.models.weights import load_backbone

BACKBONE = "backbones/glyphs.safetensors"
ARCHITECTURE = "shufflenet_v2_x1_0"
TILE_SIDE = 16_384  # px
NUM_NUMBERS = 350_000_000  # 1.4 GB
DEPTH = 990  # folders
LABEL_CHARACTERS, NUM_LABELS = 900_000, 10_900  # 9.8 GB
SPARSE_BYTES = 6 * 10**9
SCAN = ("tasks.scan", "--raw", "raw", "--out", "scanned")
PREDICT = ("tasks.predict", "bundle", "raw", "-o", "out.parquet", "--device", "cpu")
BACKBONE_VERB = ("tasks.backbone", "--out", "backbone")
# runs a command, and writes to the descriptor the largest memory (kB) of any process that it started. It is small,
# since a process begins with the peak of the one that started it
WRAPPER = (
    "import os, resource, subprocess, sys\n"
    "status = subprocess.run(sys.argv[2:]).returncode\n"
    "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
    "os.write(int(sys.argv[1]), str(peak).encode())\n"
    "sys.exit(status)\n"
)


class Bomb(NamedTuple):
    """A bomb and the command that reads it.

    `make` plants it in an empty folder. `command` is a module with its arguments, run there by `python -m`. `is_sample`
    is whether the bomb is one sample among others, so that the command ends well. Else it stops the command.
    """

    name: str
    make: Callable[[Path], None]
    command: tuple[str, ...]
    is_sample: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a command: its status, and the peak memory of its largest process."""

    status: int
    peak_gib: float
    has_traceback: bool
    output: str


def bombs() -> list[Bomb]:
    """Return every known bomb, with each command that reads it."""
    return [
        Bomb("TIFF with one huge tile, scanned", put_tile, SCAN, is_sample=True),
        Bomb("TIFF with one huge tile, predicted", put_tile, PREDICT, is_sample=True),
        Bomb("JPEG 2000 larger than it says, scanned", put_codestream, SCAN, is_sample=True),
        Bomb("JPEG 2000 larger than it says, predicted", put_codestream, PREDICT, is_sample=True),
        Bomb("packed weights", put_packed_weights, BACKBONE_VERB, is_sample=False),
        Bomb("bundle of a huge RegNet", put_regnet, PREDICT, is_sample=False),
        Bomb("Parquet labels", put_parquet_labels, SCAN, is_sample=True),
        Bomb("sparse labels.csv", put_sparse_labels, SCAN, is_sample=True),
        Bomb("deep folder, scanned", put_deep_folder, SCAN, is_sample=True),
        Bomb("deep folder, predicted", put_deep_folder, PREDICT, is_sample=True),
    ]


@contextmanager
def planted(bomb: Bomb) -> Iterator[Path]:
    """Make the bomb in a folder of its own, which is removed when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="bomb-"))
    try:
        bomb.make(folder)
        yield folder
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)  # shutil cannot remove a folder so deep


def measured(command: Sequence[str], folder: Path, *, seconds: float = 600) -> Outcome:
    """Run `python -m COMMAND` in a folder, and return the outcome. Raises TimeoutExpired after so many seconds."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as peak:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", WRAPPER, str(writing), sys.executable, "-m", *command],
                cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, pass_fds=[writing],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False,
            )  # fmt: skip
        finally:
            os.close(writing)
        peak_gib = int(peak.read()) / 2**20
    return Outcome(
        status=done.returncode, peak_gib=peak_gib, has_traceback="Traceback" in done.stdout, output=done.stdout
    )


@cache
def ordinary_peak_gib(command: tuple[str, ...]) -> float:
    """Return the peak memory of a command without a bomb: that of its imports, 0.9 GiB for torch with CUDA."""
    with planted(Bomb("none", put_pictures, command, is_sample=True)) as folder:
        return measured(command, folder).peak_gib


def put_tile(folder: Path) -> None:
    """A TIFF of 16 x 16 px whose only tile, packed, has a gigabyte."""
    put_pictures(folder)
    pixels = zlib.compressobj(1)
    row = bytes(4 * TILE_SIDE)
    data = b"".join(pixels.compress(row) for _ in range(TILE_SIDE)) + pixels.flush()
    bits = struct.pack("<4H", 8, 8, 8, 8)
    tags = {
        256: 16, 257: 16, 258: 8 + len(data), 259: 8, 262: 2, 277: 4, 322: TILE_SIDE, 323: TILE_SIDE, 324: 8,
        325: len(data), 338: 2,
    }  # fmt: skip
    entries = [struct.pack("<HHII", tag, 3 if tag == 258 else 4, 4 if tag == 258 else 1, tags[tag]) for tag in tags]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    header = b"II" + struct.pack("<HI", 42, 8 + len(data) + len(bits))
    (folder / "raw/cat/bomb.tiff").write_bytes(header + data + bits + directory)


def put_codestream(folder: Path) -> None:
    """A JPEG 2000 whose box says 16 x 16 px and whose codestream says more."""
    put_pictures(folder)
    content = bytearray(encoded(noise(0), "JPEG2000"))
    place = content.index(b"\xff\x4f\xff\x51")
    for offset in (8, 12, 24, 28):  # width and height of the image and of a tile
        content[place + offset : place + offset + 4] = struct.pack(">I", TILE_SIDE)
    (folder / "raw/cat/bomb.jp2").write_bytes(content)


def put_packed_weights(folder: Path) -> None:
    """A state dict in an archive of a few MB, packed."""
    put_params(folder)
    set_param(folder, "architecture", ARCHITECTURE)
    set_param(folder, "backbone.weights", "backbones/bomb.pth")
    (folder / "backbones").mkdir()
    plain = io.BytesIO()
    torch.save({"conv1.0.weight": torch.zeros(1)}, plain)
    with (
        zipfile.ZipFile(plain) as small,
        zipfile.ZipFile(folder / "backbones/bomb.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
    ):
        for name in small.namelist():
            with packed.open(name, "w", force_zip64=True) as part:
                if "/data/" in name:
                    for _ in range(100):
                        part.write(bytes(4 * NUM_NUMBERS // 100))
                else:
                    part.write(small.read(name))


def put_regnet(folder: Path) -> None:
    """A bundle that names a network of 644 million parameters, and whose weights have a tenth of them, all zero."""
    put_pictures(folder)
    about = json.loads((folder / "bundle" / DESCRIPTION).read_text("utf-8"))
    num_numbers = 65_000_000
    header = {"stem": {"dtype": "F32", "shape": [num_numbers], "data_offsets": [0, 4 * num_numbers]}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = sha256(start := len(text).to_bytes(8, "little") + text)
    with (folder / "bundle" / WEIGHTS).open("wb") as file:
        file.write(start)
        file.truncate(len(start) + 4 * num_numbers)
    for _ in range(100):
        digest.update(bytes(4 * num_numbers // 100))
    about |= {"architecture": "regnet_y_128gf", "features": "pooled", "weights_sha256": digest.hexdigest()}
    about["transform"] |= {"crop_size": 1024, "resize_size": 1024}
    (folder / "bundle" / DESCRIPTION).write_text(json.dumps(with_digest(about)), "utf-8")


def put_parquet_labels(folder: Path) -> None:
    """A table of 22 kB whose labels, one long text again and again, take 9.8 GB."""
    put_params(folder)
    (folder / "raw").mkdir()
    numbers = pa.array(np.zeros(NUM_LABELS, np.int32))
    columns = {
        "image": pa.DictionaryArray.from_arrays(numbers, pa.array([encoded(noise(0), "PNG")])),
        "label": pa.DictionaryArray.from_arrays(numbers, pa.array(["x" * LABEL_CHARACTERS])),
    }
    pq.write_table(pa.table(columns), folder / "raw/data.parquet", compression="zstd", store_schema=False)


def put_sparse_labels(folder: Path) -> None:
    """A table of labels of 6 GB that takes no room on the disk."""
    put_pictures(folder)
    with (folder / "raw/labels.csv").open("wb") as file:
        file.write(b"path,label\ncat/0.png,cat\n")
        file.truncate(SPARSE_BYTES)


def put_deep_folder(folder: Path) -> None:
    """A picture that lies 990 folders deep."""
    put_pictures(folder)
    place = os.open(folder / "raw/cat", os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=place)
        place, above = os.open("d", os.O_RDONLY, dir_fd=place), place
        os.close(above)
    os.close(place)


def put_pictures(folder: Path) -> None:
    """Write params.yaml, a bundle, and a batch `raw` of two classes with four pictures each."""
    put_params(folder)
    for number in range(8):
        place = folder / "raw" / ("cat", "dog")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(noise(number), "PNG"))
    backbone = load_backbone(ARCHITECTURE, weights=str(ROOT / BACKBONE), image_size=32)
    (folder / "bundle").mkdir()
    save_bundle(folder / "bundle", Classifier(backbone, {"label": ["cat", "dog"]}), lineage={})


def put_params(folder: Path) -> None:
    shutil.copy(ROOT / "params.yaml", folder)


def noise(seed: int) -> Image.Image:
    """Return a picture of 16 x 16 px."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def encoded(image: Image.Image, name: str) -> bytes:
    content = io.BytesIO()
    image.save(content, name)
    return content.getvalue()
