"""The plots of dvc.yaml, filled by DVC with what the stages write."""

import json
from pathlib import Path

import pytest
import yaml
from dvc.render.converter.vega import VegaConverter
from dvc_render.vega import VegaRenderer

ROOT = Path(__file__).parents[2]
PLOTS = {}
for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"]:
    PLOTS |= entry
EMPTY = {"epoch": "0", "train_loss": "", "train_accuracy": "", "loss_gap": "", "is_kept": "0"}  # no training yet
CURVES = [
    EMPTY | {"val_loss": "0.4", "val_calibrated_loss": "0.3", "val_accuracy": "0.9"},
    dict.fromkeys(EMPTY, "1") | {"val_loss": "0.2", "val_calibrated_loss": "0.1", "val_accuracy": "0.9"},
]
WRITTEN = {
    "data/training/curves.csv": CURVES,
    "data/evaluation/confusion.csv": [{"target": "label", "label": "cat", "candidate": "dog"}],
    "data/evaluation/reliability.csv": [{"confidence": "0.9", "accuracy": "1", "count": "3", "target": "label"}],
}


def filled(name):
    """Return the Vega-Lite specification that `dvc plots show` draws."""
    plot = PLOTS[name]
    files = {file: WRITTEN[file] for file in plot["y"]}
    points, properties = VegaConverter(name, files, plot).flat_datapoints("workspace")
    return VegaRenderer(points, name, **properties | {"template_dir": ROOT / ".dvc/plots"}).get_filled_template()


def titles(part):
    """Return the titles of the axes, anywhere in a specification."""
    if isinstance(part, list):
        return [title for inner in part for title in titles(inner)]
    if not isinstance(part, dict):
        return []
    own = [part[axis]["title"] for axis in ("x", "y") if isinstance(part.get(axis), dict) and "title" in part[axis]]
    return own + [title for inner in part.values() for title in titles(inner)]


@pytest.mark.parametrize("name", PLOTS)
def test_plot_has_a_title_and_both_axes_say_what_they_measure(name):
    specification = filled(name)
    assert "DVC_METRIC" not in json.dumps(specification)
    assert specification["title"]["text"] == PLOTS[name]["title"]
    assert {PLOTS[name]["x_label"], PLOTS[name]["y_label"]} <= set(titles(specification))
    assert not {"x", "y", "dvc_inferred_y_value"} & set(titles(specification))


@pytest.mark.parametrize("name", [name for name, plot in PLOTS.items() if plot["template"] == "epochs"])
def test_score_that_was_not_measured_is_not_drawn_as_0(name):
    lines, kept = filled(name)["layer"]
    [condition] = lines["transform"]
    drawn = lines["encoding"]["y"]["field"]
    assert condition == {"filter": f"datum['{drawn}'] !== '' && isValid(datum['{drawn}'])"}
    assert kept["transform"] == [{"filter": "datum.is_kept == 1"}]


def test_reliability_has_a_diagonal():
    diagonal, bins = filled("Reliability")["layer"]
    assert diagonal["data"]["values"] == [{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]
    assert bins["encoding"]["x"]["scale"] == bins["encoding"]["y"]["scale"] == {"domain": [0, 1]}
