"""Inputs that a stranger may hand in: real files that were changed, and names that give orders.

A seed gives the same inputs again.
"""

import io
import json
import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save
from sklearn.datasets import load_sample_image

from benchmarks.kit.small_project import ROOT
from tasks.models.architecture import build_network
from tasks.models.bundle import DESCRIPTION, WEIGHTS, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.description import with_digest
from tasks.models.weights import load_backbone

ARCHITECTURE = "shufflenet_v2_x0_5"
LAYER = "conv1.0.weight"
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")
ENDINGS = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}
NAMES = {
    "line break": "a\nerror: run `dvc pull --evil.dvc`",
    "escape sequence": "a\x1b[2J\x1b]0;owned\x07",
    "bidi override": "a\u202egnp.evil",
    "C1 control": "a\x9b31m",
    "line separator": "a\u2028error: b",
    "script": "</script><script>alert(1)<\\script>",
    "formula": "=cmd|' \\C calc'!A0",
    "template": "{{ 7 * 7 }}${IFS}%s%n",
    "option": "--out=evil",
    "shell": "$(touch evil);`touch evil`",
    "zero width": "a\u200b\u2060\ufeff",
    "emoji": "\U0001f469\u200d\U0001f52c",
    "combining": "a" + "\u0301" * 60,
    "reserved": "CON",
    "dots": "...",
    "blank": " a ",
    "quote": "a\"b'c",
    "markdown": "[a](http://evil) @all ![b](http://evil)",
}
NUL = "a\0b"  # in a cell alone: no file can be called so


def changed(content: bytes, seed: int) -> bytes:
    """Return a real file as a stranger, a bad disk or a torn copy may have left it."""
    draw = random.Random(seed)
    data = bytearray(content)
    size = len(data)
    start = draw.randrange(size)
    match seed % 6:
        case 0:
            for _ in range(draw.randint(1, 20)):
                data[draw.randrange(size)] = draw.randrange(256)
        case 1:
            del data[start:]
        case 2:  # a number in a header
            place = draw.randrange(min(size, 200))
            data[place : place + 4] = bytes.fromhex(draw.choice(["ffffffff", "7fffffff", "00000000", "ffffff7f"]))
        case 3:
            data[start : start + draw.randint(1, 100)] = bytes(draw.randint(1, 100))
        case 4:
            data[start:start] = data[start : start + draw.randint(1, 200)] * draw.randint(1, 20)
        case _:
            data += draw.randbytes(draw.randint(1, 200))
    return bytes(data)


@cache
def picture(name: str) -> bytes:
    """Return a real photograph, small, in a format."""
    image = Image.fromarray(load_sample_image("flower.jpg")).resize((48, 40))
    content = io.BytesIO()
    (image.convert("P") if name == "GIF" else image).save(content, name)
    return content.getvalue()


def put_changed_pictures(folder: Path, name: str, *, num: int, seed: int) -> None:
    ending = ENDINGS.get(name, name.lower())
    for number in range(num):
        place = folder / "raw" / ("cat", "dog")[number % 2] / f"{number:03}.{ending}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(changed(picture(name), seed + number))


def put_named_files(folder: Path) -> int:
    """Write pictures whose names give orders, and one whose name is not UTF-8; return how many."""
    place = folder / "raw/cat"
    place.mkdir(parents=True)
    names = [name.replace("/", "\\").encode() for name in NAMES.values()] + [b"not \xff\xfe text"]
    for number, name in enumerate(names):
        (place / os.fsdecode(name + b".png")).write_bytes(changed(picture("PNG"), 6 * number + 5))  # all differ
    return len(names)


def put_class_folders(folder: Path) -> int:
    for number, name in enumerate(NAMES.values()):
        place = folder / "raw" / name.replace("/", "\\")
        place.mkdir(parents=True)
        (place / "0.png").write_bytes(changed(picture("PNG"), 6 * number + 5))
    return len(NAMES)


def put_table(folder: Path, content: bytes, *, name: str = "labels.csv", num: int = 4) -> None:
    """Write pictures and a table of labels beside them."""
    (folder / "raw").mkdir(parents=True)
    for number in range(num):
        (folder / "raw" / f"{number}.png").write_bytes(changed(picture("PNG"), 6 * number + 5))
    (folder / "raw" / name).write_bytes(content)


def tables(first: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield the kind, the file's name and the content of tables of labels."""
    rows = "path,label\n0.png,cat\n1.png,dog\n2.png,cat\n3.png,dog\n"
    json_rows = "".join(json.dumps({"path": f"{number}.png", "label": "cat"}) + "\n" for number in range(4))
    for seed in range(first, first + 12):
        yield "labels.csv, bytes changed", "labels.csv", changed(rows.encode(), seed)
        yield "labels.jsonl, bytes changed", "labels.jsonl", changed(json_rows.encode(), seed)
    for kind, name in [*NAMES.items(), ("NUL", NUL)]:
        cell = '"' + name.replace('"', '""') + '"'
        yield f"cell: {kind}", "labels.csv", f"path,label\n0.png,{cell}\n1.png,dog\n2.png,{cell}\n".encode()
        yield "header that gives orders", "labels.csv", f"path,{cell}\n0.png,cat\n1.png,dog\n".encode()
        yield "path that gives orders", "labels.csv", f"path,label\n{cell},cat\n1.png,dog\n".encode()
    deep = "[" * 5000 + "]" * 5000
    yield "JSON, deep", "labels.jsonl", ('{"path": "0.png", "label": ' + deep + "}\n").encode()
    yield "JSON, huge number", "labels.jsonl", ('{"path": "0.png", "label": 1' + "0" * 5000 + "}\n").encode()
    yield "JSON, not finite", "labels.jsonl", b'{"path": "0.png", "label": NaN}\n{"path": "1.png", "label": 1e999}\n'
    yield "JSON, lone surrogate", "labels.jsonl", b'{"path": "\\ud800.png", "label": "\\udfff"}\n'
    yield "CSV, unclosed quote", "labels.csv", b'path,label\n0.png,"' + b"x" * 300_000
    yield "CSV, wide", "labels.csv", b"path," + b",".join(b"c%d" % number for number in range(5000)) + b"\n"
    yield "CSV, UTF-16", "labels.csv", rows.encode("utf-16")
    yield "CSV, empty", "labels.csv", b""
    yield "CSV, NULs", "labels.csv", bytes(5000)
    yield "path that leaves the batch", "labels.csv", b"path,label\n../../../etc/passwd,cat\n/etc/passwd,dog\n"


def parquet(columns: dict[str, Any] | None = None) -> bytes:
    """Return a Parquet file of pictures."""
    images = [{"bytes": changed(picture("PNG"), 6 * number + 5), "path": None} for number in range(4)]
    content = io.BytesIO()
    table = pa.table(columns or {"image": images, "label": ["cat", "dog", "cat", "dog"]})
    pq.write_table(table, content)
    return content.getvalue()


def parquets(first: int) -> Iterator[tuple[str, bytes]]:
    whole = parquet()
    for seed in range(first, first + 24):
        yield "Parquet, bytes changed", changed(whole, seed)
    for seed in range(first, first + 12):  # the footer alone
        yield "Parquet, footer changed", whole[:-300] + changed(whole[-300:-8], seed) + whole[-8:]
    pictures = [{"bytes": b"", "path": None}, {"bytes": None, "path": "/etc/passwd"}]
    yield "Parquet, no bytes", parquet({"image": pictures, "label": ["a", "b"]})
    for kind in ("escape sequence", "line break", "script"):
        images = [{"bytes": picture("PNG"), "path": NAMES[kind]}]
        yield "Parquet, names that give orders", parquet({"image": images, NAMES[kind]: [NAMES[kind]]})


def texts(first: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield the kind, the file's name and the content of tables and files of texts."""
    table = "text,label\n" + "".join(f"a sentence of words number {number},cat\n" for number in range(6))
    lines = "".join(json.dumps({"text": f"sentence {number}", "label": "cat"}) + "\n" for number in range(6))
    for seed in range(first, first + 12):
        yield "texts.csv, bytes changed", "texts.csv", changed(table.encode(), seed)
        yield "texts.jsonl, bytes changed", "texts.jsonl", changed(lines.encode(), seed)
    for kind in ("escape sequence", "bidi override", "line break", "script"):
        cell = NAMES[kind].replace('"', '""')
        yield "text that gives orders", "texts.csv", f'text,label\n"{cell}","{cell}"\nb,c\n'.encode()
    yield "text, one long line", "texts.csv", b"text,label\n" + b"a" * 3_000_000 + b",cat\n"
    yield "text, bytes", "cat/a.txt", bytes(range(256)) * 20


def weights(first: int) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Yield the kind, the ending and a function that makes the content of weights files."""
    state: dict[str, Any] = dict(build_network(ARCHITECTURE).state_dict())

    def saved(tensor: Any) -> bytes:
        content = io.BytesIO()
        torch.save(state | {LAYER: tensor}, content)
        return content.getvalue()

    layer = state[LAYER]
    plain, safe = saved(layer), save({name: tensor.contiguous() for name, tensor in state.items()})
    for seed in range(first, first + 12):
        yield "state dict, bytes changed", ".pth", lambda seed=seed: changed(plain, seed)  # type: ignore[misc]
        yield "safetensors, bytes changed", ".safetensors", lambda seed=seed: changed(safe, seed)  # type: ignore[misc]
        header = safe[:20_000]
        yield (
            "safetensors, header changed", ".safetensors",
            lambda seed=seed, header=header: changed(header, seed) + safe[20_000:],  # type: ignore[misc]
        )  # fmt: skip
    kinds = {
        "NaN": lambda: layer * torch.nan, "infinite": lambda: layer * torch.inf,
        "complex": lambda: layer.to(torch.complex64), "int8": lambda: layer.to(torch.int8),
        "fp8": lambda: layer.to(torch.float8_e4m3fn), "sparse": layer.to_sparse, "meta": lambda: layer.to("meta"),
        "quantised": lambda: torch.quantize_per_tensor(layer, 0.1, 0, torch.qint8),
    }  # fmt: skip
    for kind, make in kinds.items():
        yield f"weights, {kind}", ".pth", lambda make=make: saved(make())  # type: ignore[misc]
    yield "weights, code", ".pth", lambda: saved(Order())


class Order:
    """An object that runs a command wherever its pickle is loaded without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


def put_bundle(folder: Path) -> Path:
    """Write the bundle of a small untrained classifier."""
    torch.manual_seed(0)
    bundle = folder / "bundle"
    bundle.mkdir()
    backbone = load_backbone(ARCHITECTURE, weights="random", image_size=32)
    save_bundle(bundle, Classifier(backbone, {"label": ["cat", "dog"]}), lineage={})
    return bundle


def harmed_bundles(first: int) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield the kind and a function that harms a bundle in its place."""

    def content(file: str, seed: int) -> Callable[[Path], None]:
        return lambda bundle: _rewrite(bundle / file, lambda before: changed(before, seed))

    def described(key: str, value: Any) -> Callable[[Path], None]:
        def harm(bundle: Path) -> None:
            about = json.loads((bundle / DESCRIPTION).read_text("utf-8"))
            (bundle / DESCRIPTION).write_text(json.dumps(with_digest(about | {key: value})), "utf-8")

        return harm

    for seed in range(first, first + 12):
        yield "model.json, bytes changed", content(DESCRIPTION, seed)
    for seed in range(first, first + 6):
        yield "model.safetensors, bytes changed", content(WEIGHTS, seed)
    yield "model.json, huge", described("hidden_features", 10**12)
    yield "model.json, wrong kinds", described("transform", [None])
    yield "model.json, path", described("architecture", "../../evil")
    names = {NAMES["escape sequence"]: [NAMES["line break"], "b"]}
    yield "model.json, names that give orders", described("classes", names)
    yield "model.json, deep", lambda bundle: _rewrite(bundle / DESCRIPTION, lambda _: b"[" * 100_000)
    yield "model.json is a link", _link


def _link(bundle: Path) -> None:
    (bundle / DESCRIPTION).unlink()
    (bundle / DESCRIPTION).symlink_to("/etc/passwd")


def _rewrite(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


def settings(first: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield the kind, the file's name and the content of settings and ledgers that lie in git."""
    params = (ROOT / "params.yaml").read_bytes()
    for seed in range(first, first + 12):
        yield "params.yaml, bytes changed", "params.yaml", changed(params, seed)
    yield "params.yaml, tag of Python", "params.yaml", b'!!python/object/apply:os.system ["touch evil"]\n'
    bomb = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c, c, c - 1, c - 1) for c in range(98, 123))
    yield "params.yaml, aliases", "params.yaml", params.replace(b"seed: 0", bomb + b"seed: *y")
    yield "params.yaml, deep", "params.yaml", b"[" * 20_000
    for name in NAMES.values():
        yield "batches.yaml, names that give orders", "batches.yaml", json.dumps({"batches": [name]}).encode()
    for name in ("classes.json", "decisions.jsonl"):
        yield f"{name}, deep", name, b"[" * 100_000
    registry = b'{"classes": {"label": ["cat", "dog"]}, "version": 3}\n'
    known = {"candidate": "a" * 64, "heldout": "b" * 64, "baseline": None, "verdict": "accepted"}
    decision = json.dumps(known).encode()
    for seed in range(first, first + 12):
        yield "classes.json, bytes changed", "classes.json", changed(registry, seed)
        yield "decisions.jsonl, bytes changed", "decisions.jsonl", changed(decision + b"\n" + decision + b"\n", seed)


def put_landing(folder: Path) -> int:
    """Write a landing with batches, files and marks whose names and contents give orders; return how many batches."""
    landing = folder / "landing"
    landing.mkdir()
    for number, name in enumerate(NAMES.values()):
        batch = landing / name.replace("/", "\\")
        (batch / "cat").mkdir(parents=True)
        (batch / "cat" / f"{name.replace('/', chr(92))}.png").write_bytes(picture("PNG"))
        (batch / "labels.csv").write_text("path,label\n", "utf-8")
        marks = landing / ".graftline"
        marks.mkdir(exist_ok=True)
        deep = b"[" * 100_000
        mark = {"batch": name, "md5": "a", "files": 1, "bytes": 2, "fingerprint": "b"}
        (marks / f"{batch.name}.json").write_bytes(changed(json.dumps(mark).encode(), number) if number else deep)
    os.mkfifo(landing / "pipe")
    (landing / "stray.exe").write_bytes(b"MZ")
    (landing / "away").symlink_to("/etc")
    (landing / "circle").symlink_to("circle")
    return len(NAMES)
