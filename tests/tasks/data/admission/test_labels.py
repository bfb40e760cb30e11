"""Every label that came is in the manifest, set aside with a reason, or with a sample that is set aside."""

import contextlib
import json
from functools import partial

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.admission.accounts import account_labels
from tasks.data.admission.admission import admit
from tasks.data.admission.labels import LABEL_COLUMNS, num_labels, read_labels
from tasks.data.admission.options import AdmissionOptions, Split
from tasks.data.admission.splits import side_of
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import Several

TARGETS = {"label": Classes(()), "angle": Number(), "tags": Several(()), "grade": Ordinal(("low", "high"))}
HALF = partial(side_of, split=Split(salt="graftline", val_fraction=0.25, heldout_fraction=0.25))

number = st.one_of(st.floats().map(str), st.sampled_from(["1e3", " 7 ", "1_000", "north", "-0.0"]))
tags = st.one_of(
    st.lists(st.sampled_from(["a", "b", "c d"])).map(json.dumps), st.sampled_from(["a|b", "b|a", "a||b", "[", "[[]]"])
)
row = st.tuples(
    st.sampled_from(["x", "y", "z"]),
    st.one_of(st.none(), st.sampled_from(["cat", "dog"])),
    st.one_of(st.none(), number),
    st.one_of(st.none(), tags),
    st.one_of(st.none(), st.sampled_from(["low", "high ", "middle"])),
)


def table(rows):
    columns = pd.DataFrame(rows, columns=["sample_id", *TARGETS], dtype="str")
    places = {"batch": "a", "path": [f"{place:03d}.png" for place in range(len(rows))]}
    return columns.assign(**places, group=None, split=None).astype({"group": "str", "split": "str"})


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=12), min_samples=st.sampled_from([1, 2, 3]))
def test_labels_that_came_are_used_or_set_aside(rows, min_samples):
    came = table(rows)
    samples, unread = read_labels(came, TARGETS, joined={}, merge={})
    options = AdmissionOptions(targets=None, classes={}, merge={}, min_samples_per_class=min_samples)
    admission = admit(samples, options, targets=TARGETS, registered={}, split=HALF)
    set_aside = pd.concat([unread, admission.labels])
    num_came = {
        name: num_labels(samples[name], target) + int(came[name].notna().sum() - samples[name].notna().sum())
        for name, target in TARGETS.items()
    }
    counts = account_labels(num_came, admission.manifest, set_aside, admission.labels_of_ledger, targets=TARGETS)
    assert all(own["given"] >= own["used"] for own in counts.values())
    assert len(admission.manifest) + len(admission.ledger) == len(rows)
    for name, target in admission.targets.items():
        target.encode(admission.manifest[name])  # raises where a label is not in use


@settings(max_examples=80, deadline=None)
@given(cells=st.tuples(number, tags, st.sampled_from(["low ", "high", "no"])))
def test_label_that_was_read_is_read_again_as_it_is(cells):
    for target, cell in zip((Number(), Several(()), TARGETS["grade"]), cells, strict=True):
        with contextlib.suppress(ValueError):
            once = target.read(cell)
            assert target.read(once) == once


def test_label_that_is_set_aside_has_a_row_that_says_where_and_why():
    _, rows = read_labels(table([("x", "cat", "north", None, None)]), TARGETS, joined={}, merge={})
    assert list(rows.columns) == LABEL_COLUMNS
    assert rows.to_numpy().tolist() == [
        ["a", "000.png", "x", "angle", "north", "no_number", "'north' is no number, expected one such as -12.5"]
    ]
