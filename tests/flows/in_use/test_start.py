"""A batch lands: the model that is in use then is recorded, for its training to go on from."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from flows.in_use.log import append
from flows.in_use.place import digests
from flows.landing.handed import take_handed
from flows.workspace.batches import listed
from flows.workspace.run_files import run_files

MODELS = Path("data/models")
OUT = {"md5": "0" * 32 + ".dir", "size": 10, "nfiles": 2, "hash": "md5"}


def put_in_use(name):
    """Put a bundle in use, as a promotion does."""
    bundle = MODELS / "baseline"
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    (bundle / "model.safetensors").write_text(f"weights of {name}", "utf-8")
    (bundle / "model.json").write_text(f"description of {name}", "utf-8")
    (MODELS / "baseline.json").write_text(json.dumps(digests(bundle)), "utf-8")
    out = OUT | {"path": "baseline"}
    (MODELS / "baseline.dvc").write_text(yaml.safe_dump({"outs": [out]}), "utf-8")
    metrics = {"label": {"accuracy": 0.9}}
    append({"version": len(name), "action": "promote", "dvc_out": out, "metrics": metrics, **digests(bundle)})


def set_start(start):
    params = Path("params.yaml")
    params.write_text(params.read_text("utf-8").replace("  start: backbone", f"  start: {start}"), "utf-8")


def land(folder, name):
    (folder / name / "cat").mkdir(parents=True)
    (folder / name / "cat/1.jpg").write_bytes(name.encode())
    take_handed(folder / name, name=None, log=print)


def record():
    return json.loads((MODELS / "start.json").read_text("utf-8"))


def test_model_in_use_is_recorded_when_a_batch_lands_and_not_when_it_is_promoted(workspace, tmp_path):
    set_start("in_use")
    land(tmp_path, "first")
    assert record() == {}  # no model was in use
    put_in_use("a")
    assert record() == {}
    land(tmp_path, "second")
    in_use = digests(MODELS / "baseline")
    assert record() == in_use | {"metrics": {"label": {"accuracy": 0.9}}}
    assert digests(MODELS / "start") == in_use
    [out] = yaml.safe_load((MODELS / "start.dvc").read_text("utf-8"))["outs"]
    assert out == OUT | {"path": "start"}
    assert {MODELS / "start.json", MODELS / "start.dvc"} <= {*run_files()}
    put_in_use("bb")
    take_handed(tmp_path / "second", name=None, log=print)  # it is here already
    assert digests(MODELS / "start") == in_use
    land(tmp_path, "third")
    assert digests(MODELS / "start") == digests(MODELS / "baseline") != in_use


def test_nothing_is_recorded_where_training_starts_from_the_backbone(workspace, tmp_path):
    put_in_use("a")
    land(tmp_path, "first")
    assert (MODELS / "start.json").read_text("utf-8") == "{}\n"
    assert not (MODELS / "start").exists()
    assert not (MODELS / "start.dvc").exists()


def test_model_that_is_not_here_is_recorded_and_left_to_be_pulled(workspace, tmp_path):
    set_start("in_use")
    put_in_use("a")
    expected = digests(MODELS / "baseline")
    land(tmp_path, "first")
    shutil.rmtree(MODELS / "baseline")
    land(tmp_path, "second")
    assert record()["model_sha256"] == expected["model_sha256"]
    assert not (MODELS / "start").exists()


def test_batch_is_not_listed_where_the_model_in_use_cannot_be_recorded(workspace, tmp_path):
    set_start("in_use")
    put_in_use("a")
    (MODELS / "baseline.dvc").write_text("outs: []\n", "utf-8")
    with pytest.raises(ValueError, match=r"baseline\.dvc is missing or damaged: restore it with git"):
        land(tmp_path, "first")
    assert listed() == []
