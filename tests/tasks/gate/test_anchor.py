from hashlib import sha256

import numpy as np
import pandas as pd
import pytest

from tasks.gate.anchor import MOST, against, raised, read_anchors, write_anchors


def rows(num_wrong, *, num=1000):
    ids = [sha256(f"{number}".encode()).hexdigest() for number in range(num)]
    errors = (np.arange(num) < num_wrong) * 1.0
    return pd.DataFrame({"sample_id": ids, "label": "cat", "baseline": errors, "group": range(num)})


def seen(anchors, model, num_wrong, **size):
    return raised(anchors, {"label": rows(num_wrong, **size)}, model=model)


def test_model_that_is_not_better_leaves_the_anchor():
    anchors = seen({}, "first", 100)
    assert seen(anchors, "worse", 150)["label"].model == "first"
    assert seen(anchors, "alike", 98)["label"].model == "first"


def test_model_that_is_shown_to_be_better_becomes_the_anchor():
    assert seen(seen({}, "first", 100), "better", 80)["label"].model == "better"


def test_many_small_losses_are_compared_with_the_first_model():
    anchors = seen({}, "first", 100)
    for number in range(10):
        anchors = seen(anchors, f"{number}", 100 + 5 * number)
    last = rows(150).rename(columns={"baseline": "candidate"})
    compared = against(anchors["label"], last, model="candidate", is_of_classes=True)
    assert compared.mean == pytest.approx(0.05)


def test_anchor_of_samples_that_are_no_longer_held_out_is_replaced():
    anchors = seen({}, "first", 0)
    others = rows(100).assign(sample_id=[sha256(f"new {number}".encode()).hexdigest() for number in range(1000)])
    assert raised(anchors, {"label": others}, model="next")["label"].model == "next"


def test_anchor_of_few_samples_is_replaced_once_more_than_twice_as_many_are_held_out():
    """Two hundred samples rarely show a loss of less than two points, so that every candidate would be undecided."""
    anchors = seen({}, "first", 10, num=200)
    assert seen(anchors, "next", 20, num=400)["label"].model == "first"
    assert seen(anchors, "next", 21, num=402)["label"].model == "next"


def test_sample_whose_label_was_corrected_is_not_compared_by_its_old_label():
    anchors = seen({}, "first", 0)
    corrected = rows(100).rename(columns={"baseline": "candidate"})
    corrected.loc[:99, "label"] = "dog"
    compared = against(anchors["label"], corrected, model="candidate", is_of_classes=True)
    assert (compared.num_samples, compared.mean) == (900, 0.0)


def test_anchor_keeps_the_errors_of_a_part_of_many_samples(tmp_path):
    anchors = seen({}, "first", 100, num=MOST + 5)
    assert len(anchors["label"].errors) == MOST
    write_anchors(tmp_path / "anchor.json", anchors)
    assert read_anchors(tmp_path / "anchor.json") == anchors


def test_damaged_anchor_is_refused(tmp_path):
    (tmp_path / "anchor.json").write_text('{"label": 3}', "utf-8")
    with pytest.raises(ValueError, match="restore it with git"):
        read_anchors(tmp_path / "anchor.json")
