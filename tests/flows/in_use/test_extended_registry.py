"""The registry of classes after a promotion."""

import json

import pytest

from flows.in_use.registry import classes_of, extended_registry
from tasks.data.admission.registry import Registry


@pytest.fixture
def register(bare_workspace):
    """Write data/classes.json of a project."""

    def write(version, **classes):
        (bare_workspace / "data").mkdir(exist_ok=True)
        (bare_workspace / "data/classes.json").write_text(json.dumps({"version": version, "classes": classes}), "utf-8")

    return write


def test_classes_of_a_first_model_are_registered(register):
    register(0)
    assert extended_registry({"label": ["dog", "cat"]}) == Registry(version=1, classes={"label": ["dog", "cat"]})


def test_new_class_is_appended_and_counts_a_version(register):
    register(3, label=["dog", "cat"])
    grown = {"label": ["dog", "cat", "ant"]}
    assert extended_registry(grown) == Registry(version=4, classes=grown)


def test_same_classes_are_the_same_version(register):
    register(3, label=["dog", "cat"])
    assert extended_registry({"label": ["dog", "cat"]}).version == 3


def test_target_that_the_model_does_not_learn_stays_registered(register):
    register(1, colour=["red"])
    assert extended_registry({"label": ["cat"]}).classes == {"colour": ["red"], "label": ["cat"]}


@pytest.mark.parametrize("names", [["cat", "dog"], ["dog"], ["ant", "dog", "cat"]])
def test_model_with_the_classes_in_other_places_is_refused(register, names):
    register(1, label=["dog", "cat"])
    with pytest.raises(ValueError, match=r"classes of label do not begin with those of data/classes\.json"):
        extended_registry({"label": names})


@pytest.mark.parametrize("content", ["{}", '{"version": "1", "classes": {}}', '{"version": 1, "classes": []}'])
def test_damaged_registry_is_named(register, bare_workspace, content):
    register(1)
    (bare_workspace / "data/classes.json").write_text(content, "utf-8")
    with pytest.raises(ValueError, match=r"data/classes\.json is damaged"):
        extended_registry({"label": ["cat"]})


def test_scale_with_other_steps_is_refused(register):
    register(1, grade={"kind": "ordinal", "steps": ["low", "high"]})
    with pytest.raises(ValueError, match="classes of grade do not begin with those of"):
        extended_registry({"grade": {"kind": "ordinal", "steps": ["low", "medium", "high"]}})


def test_model_of_other_kinds_is_registered_without_what_it_learned(register, tmp_path):
    register(1, label=["cat"])
    angle = {"kind": "number", "level": 0.9, "loss": "squared", "unit": "degrees"}
    classes = {"label": ["cat"], "angle": angle | {"centre": 3.0, "scale": 2.0, "interval": [-1.0, 1.0]}}
    (tmp_path / "model.json").write_text(json.dumps({"classes": classes}), "utf-8")
    grown = extended_registry(classes_of(tmp_path))
    assert grown == Registry(version=2, classes={"label": ["cat"], "angle": angle})
