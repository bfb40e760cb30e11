"""What an encoder could not read of texts: counted, said, and warned of over a limit."""

import numpy as np

from tasks.data.health.marks import count_marks, describe_marks, warn_of_marks
from tasks.data.health.options import MarkLimits

LIMITS = MarkLimits(max_cut=0.5, max_unknown=0.25)


def counts(*rows):
    return count_marks(np.array(rows, dtype=np.uint8).reshape(-1, 2))


def test_marks_are_counted_and_said():
    counted = counts([1, 0], [0, 51], [0, 0], [0, 0])
    assert counted == {"num_samples": 4, "num_cut": 1, "share_unknown": 0.05}
    assert describe_marks(counted, longest="256 tokens") == (
        "1 of 4 texts is longer than 256 tokens and is cut; 5.0 % of tokens are unknown to the encoder"
    )


def test_batch_without_texts_has_counts_and_no_warning():
    assert counts() == {"num_samples": 0, "num_cut": 0, "share_unknown": 0.0}
    assert list(warn_of_marks({"a": counts()}, LIMITS)) == []


def test_batch_over_a_limit_is_warned_of_by_name():
    batches = {"calm": counts([0, 0], [1, 60]), "long": counts([1, 0], [1, 0]), "foreign": counts([0, 255], [0, 255])}
    long, foreign = warn_of_marks(batches, LIMITS)
    assert long.startswith("100 % of the texts of batch long are longer than the encoder reads (audit.max_cut is 0.5)")
    assert foreign.startswith("100 % of the tokens of batch foreign are unknown to the encoder (audit.max_unknown is")
