"""What a person reads of the held-out metrics, for targets of every kind."""

import json
import shutil
from pathlib import Path

import pytest

from flows.in_use.measures import error_in_words, logged
from flows.in_use.outcome import outcome
from flows.server.artifacts import confusions, names_of, rows
from flows.status import in_use
from flows.workspace import paths

ROOT = Path(__file__).parents[3]
OF_CLASSES = {"accuracy": 0.975, "macro_f1": 0.97, "log_loss": 0.1, "calibration_error": 0.02}
METRICS = {
    "label": {
        "candidate": OF_CLASSES | {"intervals": {"accuracy": [0.95, 0.99]}},
        "majority_class": {"name": "3", "heldout_share": 0.1},
    },
    "size": {
        "kind": "ordinal", "unit": "steps", "constant": {"answer": "medium", "error": 0.66},
        "candidate": {"error": 0.125, "accuracy": 0.9, "log_loss": 0.2, "intervals": {"error": [0.1, 0.15]}},
    },
    "traits": {"kind": "several", "unit": "share of wrong labels", "candidate": {"error": 0.041}},
    "value": {
        "kind": "number", "unit": "points", "constant": {"answer": "4.0", "error": 2.5},
        "candidate": {"error": 0.8312, "intervals": {"error": [0.7, 0.95]}},
    },
}  # fmt: skip


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """A folder in which a candidate of four targets was judged, and is in use."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    verdict = {"verdict": "accepted", "num_heldout": 200, "rules": [], "candidate": "c" * 64}
    about = {"classes": {"size": {"kind": "ordinal", "steps": ["thin", "medium", "bold"]}}}
    entry = {"version": 1, "action": "promote", "model_sha256": "c" * 64, "dvc_out": {}}
    entry["metrics"] = {target: logged(models) for target, models in METRICS.items()}
    contents = {
        paths.metrics(): METRICS, paths.verdict(): verdict, paths.candidate() / "model.json": about,
        paths.baseline_record(): {}, paths.promotions(): entry,
    }  # fmt: skip
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content) + "\n", "utf-8")


@pytest.mark.usefixtures("judged")
def test_end_of_a_run_shows_the_measure_of_each_kind():
    lines = outcome()
    assert lines[1:7] == [
        "  label, candidate  accuracy 0.9750 (0.950 to 0.990)  macro F1 0.9700  log-loss 0.1000",
        "  size, constant   error 0.66 steps",
        "  size, candidate  error 0.125 steps (0.1 to 0.15)",
        "  traits, candidate  error 4.1% wrong labels",
        "  value, constant   error 2.5 points",
        "  value, candidate  error 0.8312 points (0.7 to 0.95)",
    ]


@pytest.mark.usefixtures("judged")
def test_status_shows_the_measure_of_each_kind():
    errors = "size 0.125 steps, traits 4.1% wrong labels, value 0.8312 points"
    assert in_use() == f"v1 (cccccccccccc), held-out accuracy: label 97.5%, held-out error: {errors}"


def test_log_keeps_of_classes_what_it_kept():
    assert logged(METRICS["label"]) == OF_CLASSES
    assert logged(METRICS["value"]) == {"error": 0.8312, "unit": "points"}


@pytest.mark.usefixtures("judged")
def test_tables_on_prefects_page_take_every_kind():
    table = rows(METRICS | {"<b>": METRICS["value"] | {"unit": "<i>"}})
    assert [row["target"] for row in table] == [*METRICS, "‹b›"]
    assert len({tuple(row) for row in table}) == 1  # the page takes its columns from the first row
    assert [row["error"] for row in table[:2]] == ["", "0.125 steps (0.1 to 0.15)"]
    assert table[-1]["error"] == "0.8312 ‹i› (0.7 to 0.95)"
    samples = "target,label,candidate\nlabel,1,0\nsize,thin,thin\nsize,bold,medium\nvalue,4.0,4.1\n"
    matrices = confusions(samples, names=names_of(METRICS))
    assert [row["class"] for row in matrices["size"]] == ["thin", "medium", "bold"]
    assert list(matrices) == ["label", "size"]


@pytest.mark.parametrize(
    ("error", "unit", "text"),
    [(12345.6, "m", "12346 m"), (0.5, "its own unit", "0.5"), (0.25, "share of wrong labels", "25.0% wrong labels")],
)
def test_error_has_its_unit(error, unit, text):
    assert error_in_words(error, unit) == text
