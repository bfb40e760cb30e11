"""Data with bad input of every kind: each is in the ledger with its reason, and the run goes on."""

import json
import struct
import zlib
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks import scan, validate
from tasks.data.admission.options import QuarantineLimits
from tasks.data.manifest.tables import read_text_table, write_text_table
from tasks.stage.params import load_params

pytestmark = pytest.mark.usefixtures("great_expectations")

COLUMNS = ["batch", "path", "sample_id", "reason", "detail"]
NAMES = [
    "a b.png",
    "猫.png",
    "ü\n.png",
    "a\rb.png",
    '"quoted", and; more.png',
    "=1+1.png",
    "n" * 251 + ".png",
    "-rf.png",
    "%s{x}.png",
]


@pytest.fixture
def bomb():
    """Return a PNG of a few bytes whose header claims 100,000 x 100,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def raw(workspace, picture, bomb):
    """Return three batches, one of each layout, with every kind of bad input once."""
    root = workspace / "data/raw"
    seeds = iter(range(10**6))

    def draw(path, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(next(seeds)).save(path, "PNG", **options)

    for name in ("cat", "dog"):
        for number in range(30):
            draw(root / "folders" / name / f"{number:02d}.png")
    cat = root / "folders/cat"
    whole = (cat / "00.png").read_bytes()
    (cat / "empty.png").touch()
    (cat / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (cat / "unreadable.png").write_bytes(whole.replace(b"IDAT", b"IDAT" + b"\xff" * 8, 1))
    (cat / "text.png").write_text("not an image")
    picture(next(seeds)).save(cat / "animated.webp", save_all=True, append_images=[picture(next(seeds))])
    picture(next(seeds)).save(cat / "pages.tiff", save_all=True, append_images=[picture(next(seeds))])
    picture(next(seeds), width=4).save(cat / "small.png")
    (cat / "bomb.png").write_bytes(bomb)
    Image.new("LAB", (16, 16)).save(cat / "lab.tiff")
    Image.new("L", (16, 16), 9).save(cat / "blank.png")
    (cat / "link.png").symlink_to("/etc/hostname")
    (cat / "gone.png").symlink_to("nowhere")
    (cat / ".hidden.png").write_bytes(whole)
    (root / "folders/copy.png").write_bytes(whole)
    (root / "folders/nothing").mkdir()
    draw(root / "folders/unknown/1.png")
    (root / "folders/dog/copy of a cat.png").write_bytes((cat / "01.png").read_bytes())
    (cat / "copy.png").write_bytes((cat / "02.png").read_bytes())

    table = ["path,label,split"]
    for number, name in enumerate(NAMES):
        draw(root / "table" / name)
        quoted = name.replace('"', '""')
        table.append(f'"{quoted}",{"cat" if number % 2 else "dog"},')
    draw(root / "table/unnamed.png")
    draw(root / "table/blank.png")
    draw(root / "table/twice.png")
    table += [
        "../secret.png,cat,",
        "/etc/hostname,cat,",
        "missing.png,cat,",
        "blank.png, ,",
        "twice.png,cat,",
        "twice.png,cat,",
    ]
    table += ["a b.png,cat", "a b.png,cat,nowhere", ",cat,"]
    (root / "table/labels.csv").write_text("\n".join(table) + "\n", "utf-8")

    (root / "parquet").mkdir()
    pictures = [(root / "folders/cat" / f"{number:02d}.png").read_bytes() for number in (3, 4)]
    draw(root / "row.png")
    pictures = [(root / "row.png").read_bytes(), None, b"text", *pictures]
    (root / "row.png").unlink()
    labels = ["cat", "cat", "dog", "cat", "dog"]
    pq.write_table(pa.table({"image": pictures, "label": labels}), root / "parquet/x.parquet")
    (root / "parquet/torn.parquet").write_bytes((root / "parquet/x.parquet").read_bytes()[:-30])
    return root


@pytest.fixture
def run(workspace, raw):
    """Return a function that scans every batch and validates, and returns the ledger and the report."""

    def go(**changes):
        params = load_params(workspace / "params.yaml")
        settings = replace(
            params.validate_, **{"classes": {"label": ["cat", "dog"]}, "min_samples_per_class": 5} | changes
        )
        names = ["folders", "table", "parquet"]
        for name in names:
            scan.run(raw=raw / name, out=workspace / "scanned" / name, scan=params.scan, modality="images")
        (workspace / "batches.yaml").write_text(yaml.safe_dump({"batches": names}), "utf-8")
        (workspace / "classes.json").write_text('{"version": 0, "classes": {}}', "utf-8")
        validate.run(
            scanned=workspace / "scanned",
            batches=workspace / "batches.yaml",
            registry=workspace / "classes.json",
            corrections=workspace / "corrections.csv",
            out=workspace / "validated",
            validate=settings,
            scan=params.scan,
            adapt=params.adapt,
            modality="images",
        )
        return ledger(), json.loads((workspace / "validated/validation.json").read_text("utf-8"))

    def ledger():
        return pd.read_csv(
            workspace / "validated/quarantine.csv", dtype=str, keep_default_na=False, lineterminator="\n"
        )

    go.ledger = ledger
    return go


def all_allowed():
    return {"max_quarantined": QuarantineLimits(overall=1.0, batch=1.0, class_=1.0)}


def test_each_kind_of_bad_input_is_in_the_ledger_with_its_reason(run):
    ledger, report = run(**all_allowed())
    assert list(ledger.columns) == COLUMNS
    reasons = {(row.batch, row.path): row.reason for row in ledger.itertuples()}
    expected = {
        "folders": {
            "cat/empty.png": "empty_file",
            "cat/truncated.png": "truncated",
            "cat/unreadable.png": "unreadable",
            "cat/text.png": "not_an_image",
            "cat/animated.webp": "animated",
            "cat/pages.tiff": "animated",
            "cat/small.png": "too_small",
            "cat/bomb.png": "too_many_pixels",
            "cat/lab.tiff": "unsupported_mode",
            "cat/blank.png": "blank",
            "cat/link.png": "outside_batch",
            "cat/gone.png": "missing_file",
            "cat/.hidden.png": "hidden_file",
            "copy.png": "unlabelled_copy",
            "nothing": "empty_class_folder",
            "unknown/1.png": "unknown_class",
            "dog/copy of a cat.png": "conflicting_labels",
            "cat/01.png": "conflicting_labels",
            "cat/copy.png": "exact_duplicate",
            "cat/04.png": "conflicting_labels",
        },
        "table": {
            "../secret.png": "outside_batch",
            "/etc/hostname": "outside_batch",
            "missing.png": "missing_file",
            "twice.png": "duplicate_path",
            f"labels.csv:{len(NAMES) + 9}": "unreadable_row",
            "a b.png": "unreadable_row",
            f"labels.csv:{len(NAMES) + 11}": "missing_file",
        },
        "parquet": {
            "x.parquet/1": "unreadable_row",
            "x.parquet/2": "not_an_image",
            "x.parquet/3": "exact_duplicate",
            "x.parquet/4": "conflicting_labels",
            "torn.parquet": "unreadable_table",
        },
    }
    by_batch = {
        batch: {path: reason for (place, path), reason in reasons.items() if place == batch} for batch in expected
    }
    # the line of a table's row depends on the newlines in names before it
    assert {batch: sorted(in_batch.values()) for batch, in_batch in by_batch.items()} == {
        batch: sorted(in_batch.values()) for batch, in_batch in expected.items()
    }
    for batch, in_batch in expected.items():
        for path, reason in in_batch.items():
            assert path.startswith("labels.csv:") or by_batch[batch][path] == reason, path
    for counts in report["batches"].values():
        assert counts["in"] == sum(count for name, count in counts.items() if name != "in")
    assert report["batches"]["table"]["used"] == len(NAMES) + 1
    assert (ledger["sample_id"] != "").sum() > 10


def test_exceeded_budget_stops_the_run_after_the_ledger_is_written(run, workspace):
    with pytest.raises(ValueError, match=r"of all samples are quarantined, expected at most 10\.0%"):
        run()
    assert len(run.ledger()) > 30
    assert (workspace / "validated/validation.json").is_file()


def test_fixed_file_is_released_by_the_next_run(run, raw, picture):
    before, _ = run(**all_allowed())
    picture(10**7).save(raw / "folders/cat/truncated.png")
    after, _ = run(**all_allowed())
    assert len(after) == len(before) - 1
    assert "cat/truncated.png" not in set(after["path"])


@settings(max_examples=150, deadline=None)
@given(
    paths=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1)
)
def test_ledger_returns_any_path_unchanged(tmp_path_factory, paths):
    ledger = pd.DataFrame(dict.fromkeys(COLUMNS, paths))
    path = tmp_path_factory.mktemp("ledger") / "quarantine.csv"
    write_text_table(path, ledger)
    assert read_text_table(path).equals(ledger)
