"""A proposal is written into params.yaml, and nothing else of the file changes."""

from pathlib import Path

import pytest
import yaml

from flows.workspace.parameters import MARK, PARAMS, modality, set_parameters

CHANGES = [
    {"key": "preset", "value": "photographs", "why": "in colour"},
    {"key": "backbone.features", "value": "penultimate", "why": "what it classifies by"},
    {"key": "backbone.image_size", "value": 96, "why": "the pictures have 64 px"},
]


def test_value_gets_its_reason_above_it_and_every_other_line_stays(workspace):
    before = PARAMS.read_text("utf-8").splitlines()
    set_parameters(CHANGES)
    after = PARAMS.read_text("utf-8").splitlines()
    content = yaml.safe_load(PARAMS.read_text("utf-8"))
    assert content["preset"] == "photographs"
    assert content["backbone"]["features"] == "penultimate"
    assert content["backbone"]["image_size"] == 96
    [place] = [number for number, line in enumerate(after) if line.startswith("  image_size: 96")]
    assert after[place - 1] == f"  {MARK}the pictures have 64 px"
    assert after[place].endswith("# px; null takes the size from the weights' own transform")
    assert len(after) == len(before) + len(CHANGES)
    assert len(set(before) - set(after)) == len(CHANGES)


def test_second_proposal_replaces_value_and_reason(workspace):
    set_parameters(CHANGES)
    text = PARAMS.read_bytes()
    set_parameters([{"key": "backbone.image_size", "value": None, "why": "they are large"}])
    set_parameters(CHANGES)
    assert PARAMS.read_bytes() == text


def test_modality_is_read_and_one_that_is_none_is_refused(workspace):
    assert modality() == "images"
    set_parameters([{"key": "modality", "value": "text", "why": "reviews.csv holds texts"}])
    assert modality() == "text"
    for content, problem in {
        "modality: sound\n": "modality is 'sound', expected images or text",
        "a: [": "cannot be read",
    }.items():
        PARAMS.write_text(content, "utf-8")
        with pytest.raises(ValueError, match=problem):
            modality()


def test_parameter_that_is_missing_is_named(workspace):
    Path("params.yaml").write_text("seed: 0\n", "utf-8")
    with pytest.raises(ValueError, match=r"params\.yaml has no backbone\.image_size: add it"):
        set_parameters(CHANGES[2:])
