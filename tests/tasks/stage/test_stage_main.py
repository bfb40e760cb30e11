"""The verbs as the shell sees them: one line for each thing that can be wrong, and no half-written output."""

import errno
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tasks.data.health.leaks import COLUMNS, LEAKS
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import sample_id
from tasks.data.vectors.embeddings import write_embeddings
from tasks.machine.files import write_json
from tasks.models.bundle import WEIGHTS, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.scan import run as scan
from tasks.stage.params import load_params
from tasks.stage.shell import errors_in_one_line

ROOT = Path(__file__).parents[3]
VALIDATE = [
    "validate",
    "--scanned",
    "scanned",
    "--batches",
    "batches.yaml",
    "--registry",
    "classes.json",
    "--corrections",
    "corrections.csv",
    "--out",
    "validated",
]


def everything(folder):
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


def set_param(workspace, section, key, value):
    path = workspace / "params.yaml"
    content = yaml.safe_load(path.read_text("utf-8"))
    content[section][key] = value
    path.write_text(yaml.safe_dump(content), "utf-8")


@pytest.fixture
def bundle(workspace):
    """A small untrained backbone as the stage `backbone` leaves it."""
    torch.manual_seed(0)
    folder = workspace / "data" / "models" / "backbone"
    folder.mkdir(parents=True)
    backbone = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
    save_bundle(folder, Classifier(backbone, {}), lineage={"fingerprint": backbone.fingerprint()})
    return folder


@pytest.fixture
def manifest(workspace, batch):
    """The manifest of `batch`."""
    paths = sorted(batch.rglob("*.png"))
    table = pd.DataFrame(
        {
            "batch": batch.name,
            "path": [str(path.relative_to(batch)) for path in paths],
            "sample_id": [sample_id(path.read_bytes()) for path in paths],
            "label": [path.parent.name for path in paths],
            "split": ["train", "val", "heldout"] * 2,
        }
    )
    path = workspace / "data" / "validated" / "manifest" / f"{batch.name}.parquet"
    path.parent.mkdir(parents=True)
    write_table(path, table)
    return path


def test_scan_of_a_batch_ends_well(shell, batch, workspace):
    done = shell("scan", "--raw", batch, "--out", workspace / "scanned")
    assert done.status == 0, done.stderr
    assert done.stderr.splitlines() == [f"scanned {batch}: 6 samples, 0 defects"]
    assert everything(workspace / "scanned") == ["defects.parquet", "samples.parquet"]


def test_missing_batch_is_told_in_one_line(shell, workspace):
    done = shell("scan", "--raw", "data/raw/gone", "--out", "scanned")
    assert done.error.startswith("there is no batch data/raw/gone: put it there")
    assert done.stderr.count("\n") == 1
    assert everything(workspace) == ["params.yaml"]


def test_misspelt_param_is_told_in_one_line(shell, batch, workspace):
    set_param(workspace, "scan", "min_imge_size", 8)
    done = shell("scan", "--raw", batch, "--out", "scanned")
    assert done.error.startswith("params.yaml: scan.min_imge_size is unknown, expected one of min_image_size")
    assert done.stderr.count("\n") == 1


def test_params_of_another_file_are_used_on_request(shell, batch, workspace):
    set_param(workspace, "scan", "min_image_size", 17)
    (workspace / "params.yaml").rename(workspace / "strict.yaml")
    done = shell("scan", "--params", "strict.yaml", "--raw", batch, "--out", "scanned")
    assert done.stderr.splitlines() == [f"scanned {batch}: 0 samples, 6 defects"]


def test_full_disk_leaves_no_half_written_table(shell, batch, workspace):
    before = everything(workspace)
    done = shell("scan", "--raw", batch, "--out", workspace / "scanned", max_file_bytes=1000)
    assert "File too large" in done.error
    assert everything(workspace) == before


def test_full_disk_leaves_the_output_of_the_run_before(shell, batch, workspace):
    scan(raw=batch, out=workspace / "scanned", scan=load_params(workspace / "params.yaml").scan, modality="images")
    before = {each.name: each.read_bytes() for each in (workspace / "scanned").iterdir()}
    (batch / "cat" / "0.png").unlink()
    assert shell("scan", "--raw", batch, "--out", workspace / "scanned", max_file_bytes=1000).status == 1
    assert {each.name: each.read_bytes() for each in (workspace / "scanned").iterdir()} == before
    assert everything(workspace) == sorted(
        ["params.yaml", "scanned", "scanned/defects.parquet", "scanned/samples.parquet"]
        + [path for path in everything(workspace) if path.startswith("data")]
    )


def test_full_disk_leaves_no_half_written_weights(shell, workspace, manifest):
    write_json(workspace / "data" / "validated" / "classes.json", {"label": ["cat", "dog"]})
    (workspace / "batches.yaml").write_text(f'batches: ["{manifest.stem}"]', "utf-8")
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    write_embeddings(
        workspace / f"{manifest.stem}.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="r"
    )
    pd.DataFrame(columns=COLUMNS).to_csv(workspace / LEAKS, index=False)
    before = everything(workspace)
    done = shell(
        "train_head", "--manifests", "data/validated/manifest", "--classes", "data/validated/classes.json",
        "--embeddings", ".", "--audit", ".", "--batches", "batches.yaml", "--raw", "data/raw", "--out", "head",
        max_file_bytes=100,
    )  # fmt: skip
    assert everything(workspace) == before
    assert "File too large" in done.error


def test_output_below_a_file_is_told_in_one_line(shell, batch, workspace):
    (workspace / "scanned").write_text("a file, not a folder", "utf-8")
    done = shell("scan", "--raw", batch, "--out", workspace / "scanned" / "2024-01")
    assert str(workspace / "scanned") in done.error
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_folder_that_may_not_be_written_is_told_in_one_line(shell, batch, workspace):
    (workspace / "locked").mkdir(mode=0o500)
    done = shell("scan", "--raw", batch, "--out", workspace / "locked" / "scanned")
    assert "grant access to it" in done.error
    assert done.stderr.count("\n") == 1


def test_empty_list_of_batches_is_told_in_one_line(shell, workspace):
    (workspace / "batches.yaml").write_text("batches: []", "utf-8")
    done = shell(*VALIDATE)
    assert done.error.startswith("batches.yaml lists no batches: put samples in data/raw/<batch>/")
    assert done.stderr.count("\n") == 1


def test_missing_list_of_batches_is_told_in_one_line(shell):
    done = shell(*VALIDATE)
    assert done.error.startswith("batches.yaml")
    assert done.stderr.count("\n") == 1


def test_torn_scan_is_told_by_name_in_one_line(shell, workspace, batch):
    scan(
        raw=batch,
        out=workspace / "scanned" / batch.name,
        scan=load_params(workspace / "params.yaml").scan,
        modality="images",
    )
    table = workspace / "scanned" / batch.name / "samples.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    (workspace / "batches.yaml").write_text(f'batches: ["{batch.name}"]', "utf-8")
    done = shell(*VALIDATE)
    assert "samples.parquet" in done.error
    assert done.stderr.count("\n") == 1


def test_torn_bundle_is_told_in_one_line(shell, batch, manifest, bundle):
    weights = bundle / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    done = shell(
        "embed", "--raw", batch, "--manifest", manifest, "--backbone", bundle, "--out", "e.safetensors",
        "--hashes", "h.safetensors", "--store", "store",
    )  # fmt: skip
    assert done.error.startswith(f"{bundle} is not a whole bundle")
    assert done.stderr.count("\n") == 1


def test_missing_manifest_of_a_listed_batch_is_told_in_one_line(shell, workspace, manifest):
    (workspace / "batches.yaml").write_text(f'batches: ["{manifest.stem}", second]', "utf-8")
    write_embeddings(
        workspace / f"{manifest.stem}.safetensors",
        [np.zeros((6, 4), dtype=np.float32).astype(np.float16)],
        shape=np.zeros((6, 4), dtype=np.float32).shape,
        recipe="r",
    )
    done = shell(
        "train_head", "--manifests", manifest.parent, "--classes", "classes.json",
        "--embeddings", ".", "--audit", ".", "--batches", "batches.yaml", "--raw", "data/raw", "--out", "head",
    )  # fmt: skip
    assert done.error.startswith(f"{manifest.with_name('second.parquet')} is missing, though batch second is listed")
    assert done.stderr.count("\n") == 1


def test_missing_evaluation_is_told_in_one_line(shell):
    done = shell(
        "regression", "--evaluation", "evaluation", "--candidate", "c", "--tests", "tests", "--decisions", "d",
        "--anchor", "anchor.json", "--out", "regression",
    )  # fmt: skip
    assert done.error == "evaluation/subject.json is missing: run `dvc repro evaluate`, or `dvc pull`"
    assert done.stderr.count("\n") == 1


def test_missing_ledger_is_told_by_name_in_one_line(shell, workspace):
    (workspace / "b").write_text("batches: [first]\n", "utf-8")
    done = shell(
        "report",
        "--validated",
        "v",
        "--audit",
        "a",
        "--training",
        "t",
        "--evaluation",
        "e",
        "--regression",
        "r",
        "--head",
        "h",
        "--adaptation",
        "d",
        "--health",
        "h",
        "--batches",
        "b",
        "--raw",
        "w",
        "--out",
        "o.html",
    )
    assert "v/quarantine.csv" in done.error
    assert done.stderr.count("\n") == 1


def test_traceback_is_shown_to_who_asks_for_it(shell):
    done = shell("scan", "--raw", "gone", "--out", "scanned", environment={"GRAFTLINE_TRACEBACK": "1"})
    assert done.status == 1
    assert "Traceback" in done.stderr


def test_argument_that_is_missing_is_named(shell):
    done = shell("scan", "--raw", "gone")
    assert done.status == 2
    assert "--out" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end it")
def test_stage_dies_with_the_process_that_started_it(workspace):
    """The stage waits for somebody to write its params; its starter is killed; then nobody reads any more."""
    seconds = 60.0
    pipe = workspace / "pipe"
    os.mkfifo(pipe)
    stage = [sys.executable, "-m", "tasks.scan", "--params", str(pipe), "--raw", "raw", "--out", "scanned"]
    starter = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *stage],
        cwd=workspace,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    writer = open_once_it_is_read(pipe, seconds=seconds)
    try:
        starter.kill()
        starter.wait(timeout=seconds)
        reader_is_gone = select.poll()
        reader_is_gone.register(writer, 0)
        assert reader_is_gone.poll(1000 * seconds) == [(writer, select.POLLERR)]
    finally:
        os.close(writer)


def open_once_it_is_read(pipe, *, seconds):
    """Open a pipe for writing as soon as a process reads it.

    A blocking `open` would wait for ever if the process had failed before.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > end:  # ENXIO: nobody reads it yet
                raise
            time.sleep(0.05)


def test_params_are_checked_before_anything_is_read(shell, workspace):
    content = yaml.safe_load((workspace / "params.yaml").read_text("utf-8"))
    del content["report"]
    (workspace / "params.yaml").write_text(json.dumps(content), "utf-8")
    assert shell("scan", "--raw", "gone", "--out", "o").error == "params.yaml: report is missing: add it"


def test_kernel_that_has_no_fixed_order_is_named_in_one_line(caplog):
    message = "upsample_bicubic2d_backward_out_cuda does not have a deterministic implementation, but you set …"
    with pytest.raises(SystemExit), errors_in_one_line():
        raise RuntimeError(message)
    assert "a GPU computes upsample_bicubic2d_backward_out_cuda in no fixed order" in caplog.text
    assert "set the stage's device to cpu" in caplog.text
