from collections import Counter
from math import sqrt

import pandas as pd
import pytest

from tasks.data.admission.options import Split
from tasks.data.admission.splits import held_out_before, read_split, side_of

KEYS = [f"sample {number}" for number in range(10_000)]


def splits(keys, *, salt="graftline", val_fraction=0.15, heldout_fraction=0.2):
    split = Split(salt=salt, val_fraction=val_fraction, heldout_fraction=heldout_fraction)
    return {key: side_of(key, split) for key in keys}


def test_split_is_the_same_on_every_machine_and_in_every_version():
    found = splits("abcdefgh", val_fraction=0.3, heldout_fraction=0.3)
    assert list(found.values()) == ["train", "heldout", "heldout", "train", "heldout", "train", "train", "val"]


@pytest.mark.parametrize(("val_fraction", "heldout_fraction"), [(0.15, 0.2), (0.4, 0.5), (0.01, 0.02)])
def test_fractions_are_met_up_to_chance(val_fraction, heldout_fraction):
    found = Counter(splits(KEYS, val_fraction=val_fraction, heldout_fraction=heldout_fraction).values())
    for name, fraction in (("val", val_fraction), ("heldout", heldout_fraction)):
        sigma = sqrt(len(KEYS) * fraction * (1 - fraction))
        assert abs(found[name] - len(KEYS) * fraction) < 4 * sigma


def test_another_salt_is_another_split():
    one, other = splits(KEYS), splits(KEYS, salt="second")
    both_heldout = sum(one[key] == other[key] == "heldout" for key in KEYS)
    assert abs(both_heldout - 400) < 4 * sqrt(10_000 * 0.04 * 0.96)  # independent: 0.2 * 0.2


def test_larger_val_fraction_takes_nothing_from_heldout():
    one, other = splits(KEYS), splits(KEYS, val_fraction=0.5)
    assert [key for key in KEYS if one[key] == "heldout"] == [key for key in KEYS if other[key] == "heldout"]


NOW = Split(salt="second", val_fraction=0.15, heldout_fraction=0.2)


def heldout_rows(**columns):
    """Held out by the split of now, in groups or not."""
    keys = [key for key, side in splits(KEYS, salt="second").items() if side == "heldout"]
    return pd.DataFrame({"sample_id": keys, "group": None} | columns)


def test_model_of_another_split_learned_from_all_that_it_did_not_hold_out():
    rows = heldout_rows()
    found = held_out_before(rows, now=NOW, before=Split(salt="graftline", val_fraction=0.15, heldout_fraction=0.2))
    before = splits(KEYS)
    assert found.tolist() == [before[key] == "heldout" for key in rows["sample_id"]]
    assert 0.1 < found.mean() < 0.3


def test_larger_heldout_fraction_leaves_what_was_held_out_before():
    smaller = Split(salt="second", val_fraction=0.15, heldout_fraction=0.1)
    found = held_out_before(heldout_rows(), now=NOW, before=smaller)
    assert found.tolist() == [side_of(key, smaller) == "heldout" for key in heldout_rows()["sample_id"]]


def test_samples_of_a_group_are_on_its_side():
    before = Split(salt="graftline", val_fraction=0.15, heldout_fraction=0.2)
    [group] = [key for key in heldout_rows()["sample_id"] if side_of(key, before) == "heldout"][:1]
    assert held_out_before(heldout_rows(group=group), now=NOW, before=before).all()


def test_what_the_data_hold_out_is_held_out_whatever_the_split():
    named = pd.DataFrame({"sample_id": [key for key in KEYS if side_of(key, NOW) != "heldout"], "group": None})
    assert held_out_before(named, now=NOW, before=Split(salt="x", val_fraction=0.1, heldout_fraction=0.1)).all()


@pytest.mark.parametrize(
    "lineage", [None, {}, "split", {"salt": "x"}, {"salt": "x", "val_fraction": "y", "heldout_fraction": 0.1}]
)
def test_lineage_that_tells_of_no_split_is_taken_for_the_same(lineage):
    assert held_out_before(heldout_rows(), now=NOW, before=read_split(lineage)).all()
