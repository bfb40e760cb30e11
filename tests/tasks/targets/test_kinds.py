import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.targets.classes import Classes
from tasks.targets.kinds import declared_of, facts_of, target_of, targets_of
from tasks.targets.number import Number
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import Several

NAMES = st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True).map(tuple)
FINITE = st.floats(-1e30, 1e30)


def filled(names):
    """Return several labels with a calibration of each."""
    numbers = tuple(float(number) for number in range(len(names)))
    return Several(
        names, separator=";", columns=names, slopes=numbers, shifts=numbers, thresholds=tuple(0.5 for _ in names)
    )


TARGETS = st.one_of(
    NAMES.map(Classes),
    NAMES.map(Ordinal),
    NAMES.map(Several),
    NAMES.map(filled),
    st.builds(
        Number, measure=st.text(max_size=9), loss=st.sampled_from(["squared", "huber"]), level=st.floats(0.01, 0.99),
        tolerance=st.none() | st.floats(0, 9), centre=FINITE, scale=st.floats(1e-9, 1e30),
        interval=st.none() | st.tuples(FINITE, FINITE),
    ),
)  # fmt: skip


@given(TARGETS)
def test_target_comes_back_from_its_facts_in_json(target):
    assert target_of(json.loads(json.dumps(target.facts()))) == target


@given(TARGETS)
def test_declared_facts_have_no_calibration_and_read_as_a_target(target):
    again = target_of(json.loads(json.dumps(target.declared())))
    assert again.declared() == target.declared()
    assert (again.names, again.num_outputs) == (target.names, target.num_outputs)
    assert "slopes" not in target.declared()
    assert "centre" not in target.declared()


def test_classes_are_a_plain_list():
    targets = targets_of({"label": ["a", "b"], "age": {"kind": "number", "unit": "years"}})
    assert facts_of(targets)["label"] == ["a", "b"]
    assert declared_of(targets)["age"] == {"kind": "number", "level": 0.9, "loss": "squared", "unit": "years"}
    assert targets_of(targets) == targets


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (3, "expected a list of classes, or the kind several, ordinal, number, found 3"),
        ({"kind": "ranking"}, "expected a list of classes, or the kind"),
        ({"kind": ["number"]}, "expected a list of classes, or the kind"),
        ([], "at least 1 item"),
        (["a", 1], "valid string"),
        (["a", "a"], "a class, label or step is there twice"),
        ({"kind": "ordinal", "steps": ["a"]}, "steps .*at least 2 items"),
        ({"kind": "number", "level": 1.0}, "level expected less than 1"),
        ({"kind": "number", "scale": 0.0}, "scale expected greater than 0"),
        ({"kind": "number", "scale": float("nan")}, "scale expected"),
        ({"kind": "number", "colour": "red"}, "colour"),
        ({"kind": "several", "labels": ["a", "b"], "slopes": [1.0]}, "1 numbers for 2 labels"),
    ],
)
def test_facts_that_make_no_target_are_refused_in_one_line_that_names_the_target(facts, message):
    with pytest.raises(ValueError, match=f"^target 'age': .*{message}") as raised:
        targets_of({"age": facts})
    assert "\n" not in str(raised.value)
