import re

import pytest
from pydantic import ValidationError

from tasks.data.admission.declarations import checked_targets
from tests.kit.validating import params


@pytest.mark.parametrize(
    "said",
    [
        None, ["label", "domain"],
        {"a": "auto", "b": "classes", "c": "several", "d": "ordinal", "e": "number"},
        {"a": {"kind": "several", "separator": ";"}, "b": {"kind": "several", "columns": ["even", "loop"]}},
        {"a": {"kind": "number", "unit": "degrees", "loss": "huber", "level": 0.9, "tolerance": 5}},
    ],
)  # fmt: skip
def test_declared_targets_are_taken_as_they_are(said):
    assert params(targets=said).targets == said


def test_steps_may_be_whole_numbers():
    assert checked_targets({"a": {"kind": "ordinal", "steps": [1, 2]}}) == {
        "a": {"kind": "ordinal", "steps": ["1", "2"]}
    }


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("label", "expected null, a list of columns, or a kind for each, such as {angle: number}"),
        ([], "expected null"),
        (["a", "a"], "'a' is there twice: name it once"),
        ([1], "expected the name of a column, found 1: write it in quotes"),
        ({"a": "numbers"}, "the kind of 'a' is 'numbers', expected one of auto, classes, several, ordinal, number"),
        ({"a": {"unit": "m"}}, "the kind of 'a' is None, expected one of"),
        ({"a": {"kind": "number", "units": "m"}}, "'units', expected unit, loss, level, tolerance"),
        ({"a": {"kind": "number", "level": 2}}, "'a': level expected less than 1"),
        ({"a": {"kind": "number", "loss": "l1"}}, "'a': loss expected 'squared' or 'huber'"),
        ({"a": {"kind": "ordinal", "steps": ["x"]}}, "'a': steps"),
        ({"a": {"kind": "ordinal", "steps": ["x", "x"]}}, "'a': a class, label or step is there twice"),
        ({"a": {"kind": "several", "columns": ["x", "x"]}}, "'a' names a column twice"),
        ({"a": {"kind": "several", "columns": ["x"]}, "x": "classes"}, "'x' is a target, and a label of 'a'"),
    ],
)  # fmt: skip
def test_declaration_that_says_no_target_is_refused_in_a_line(said, words):
    with pytest.raises(ValidationError, match=re.escape(words)) as found:
        params(targets=said)
    assert found.value.error_count() == 1


@pytest.mark.parametrize("key", ["classes", "merge"])
def test_classes_of_a_number_are_refused(key):
    own = {"classes": {"a": ["1"]}, "merge": {"a": {"1": "2"}}}[key]
    with pytest.raises(ValueError, match=f"{key} names 'a', which validate.targets makes number"):
        params(targets={"a": "number"}, **{key: own})
