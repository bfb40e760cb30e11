from collections import Counter
from math import sqrt

import pytest

from tasks.data.splits import split_of

KEYS = [f"sample {number}" for number in range(10_000)]


def splits(keys, *, salt="graftline", val_fraction=0.15, heldout_fraction=0.2):
    return {key: split_of(key, salt=salt, val_fraction=val_fraction, heldout_fraction=heldout_fraction) for key in keys}


def test_split_is_the_same_on_every_machine_and_in_every_version():
    found = [split_of(key, salt="graftline", val_fraction=0.3, heldout_fraction=0.3) for key in "abcdefgh"]
    assert found == ["train", "heldout", "heldout", "train", "heldout", "train", "train", "val"]


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
