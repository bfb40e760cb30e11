"""A bundle in a fresh process."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from tasks.data.samples.contents import read_content
from tasks.data.samples.samples import Samples, sample_id
from tasks.images.decode import decode_sample
from tasks.models.bundle import load_bundle, save_bundle
from tests.kit.adapted import adapted
from tests.kit.plain import plain_probabilities
from tests.kit.programs import run

ROOT = Path(__file__).parents[2]
NAMES = ["cat", "dog"]


@pytest.fixture
def evaluated(workspace, batch, bundle, picture):
    """predictions.parquet as evaluate writes it, with the columns that count here."""
    model, _ = load_bundle(bundle)
    rows = [
        {"sample_id": sample_id(path.read_bytes()), "batch": batch.name, "path": str(path.relative_to(batch)),
         "target": "label", "label": path.parent.name}
        for path in sorted(batch.rglob("*.png"))
    ]  # fmt: skip
    pixels = torch.stack([model.backbone.transform.prepare(picture(number)) for number in range(len(rows))])
    [given] = plain_probabilities(model, [pixels])
    table = pd.DataFrame(rows)
    table["candidate_label_probability"] = [float(given[n, NAMES.index(row["label"])]) for n, row in enumerate(rows)]
    path = workspace / "predictions.parquet"
    table.to_parquet(path)
    return path


def test_bundle_that_predicts_as_evaluate_did_passes(bundle, evaluated, batch, shell):
    done = shell("smoke", "--bundle", bundle, "--predictions", evaluated, "--raw", batch.parent)
    assert done.status == 0, done.stderr
    told = re.search(
        r"agrees with evaluate on 6 predictions \(to .+\), ([0-9.]+) ms for one sample$", done.stderr.strip()
    )
    found = json.loads(done.stdout)
    assert found.pop("max_abs_difference") < 1e-5
    assert found == {"num_compared": 6, "latency_milliseconds": float(told[1])}


def test_bundle_that_predicts_something_else_fails(bundle, evaluated, batch, shell):
    table = pd.read_parquet(evaluated)
    table.loc[3, "candidate_label_probability"] += 0.002
    table.to_parquet(evaluated)
    done = shell("smoke", "--bundle", bundle, "--predictions", evaluated, "--raw", batch.parent)
    assert "differ from" in done.error
    assert "by 0.002, expected at most 0.001" in done.error


def test_samples_of_a_domain_are_compared_with_the_answers_of_its_heads(bundle, evaluated, batch, shell):
    model = adapted(load_bundle(bundle)[0], {"drawing": ["label"]})
    save_bundle(bundle, model, lineage={})
    table = pd.read_parquet(evaluated)
    table["domain"] = ["drawing"] * 4 + ["photo", None]
    pixels = Samples(table, raw=batch.parent, decode=decode_sample, read=read_content)
    prepared = [model.backbone.transform.prepare(pixels.decoded(row)) for row in range(len(table))]
    given = {
        name: plain_probabilities(own, [torch.stack(prepared)])[0]
        for name, own in (("drawing", model.of_domain("drawing")), ("general", model))
    }
    by_heads = ["drawing"] * 4 + ["general"] * 2
    columns = [NAMES.index(label) for label in table["label"]]
    table["candidate_label_probability"] = [float(given[name][row, columns[row]]) for row, name in enumerate(by_heads)]
    arguments = ("--bundle", bundle, "--predictions", evaluated, "--raw", batch.parent)
    table.to_parquet(evaluated)
    assert "agrees with evaluate on 6 predictions" in shell("smoke", *arguments).stderr
    table.assign(domain=None).to_parquet(evaluated)
    assert "differ from" in shell("smoke", *arguments).error


def test_nothing_to_compare_is_no_agreement(bundle, evaluated, batch, shell):
    for empty in (pd.read_parquet(evaluated).iloc[:0], pd.read_parquet(evaluated).assign(target="other")):
        empty.to_parquet(evaluated)
        assert (
            "evaluate predicted no"
            in shell("smoke", "--bundle", bundle, "--predictions", evaluated, "--raw", batch.parent).error
        )


def test_bundle_loads_without_predictions(bundle, shell):
    done = shell("smoke", "--bundle", bundle)
    assert "loads and predicts" in done.stderr
    assert json.loads(done.stdout)["num_compared"] == 0


def test_no_code_of_training_or_evaluation_is_imported(bundle, evaluated, batch, workspace):
    code = (
        "import runpy, sys\n"
        "runpy.run_module('tasks.smoke', run_name='__main__', alter_sys=True)\n"
        "print(*[name for name in sys.modules if name.startswith('tasks.')])"
    )
    arguments = ["--bundle", bundle, "--predictions", evaluated, "--raw", batch.parent]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = run(*command, cwd=workspace, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    names = done.stdout.splitlines()[-1].split()
    assert "tasks.models.bundle" in names
    used = {name for name in names if name.count(".") == 1}
    rooms = ("data", "embedding", "images", "machine", "models", "prediction", "stage", "targets", "text")
    assert used <= {f"tasks.{room}" for room in rooms}
