"""What the limits count, and what a message says about it."""

import pandas as pd
import pytest

from tasks.data.admission.accounts import budget, lost_classes
from tasks.data.admission.options import QuarantineLimits
from tasks.data.admission.quarantine import LEDGER_COLUMNS, commonest

LIMITS = QuarantineLimits(overall=0.1, batch=0.3, class_=0.3)


def manifest(*rows):
    """Rows of (batch, split, label, number of samples)."""
    table = [(batch, split, label) for batch, split, label, number in rows for _ in range(number)]
    return pd.DataFrame(table, columns=["batch", "split", "label"])


def ledger(*rows):
    """Rows of (batch, reason, number of samples)."""
    table = [
        (batch, f"{reason}{number}.png", "", reason, "the detail")
        for batch, reason, count in rows
        for number in range(count)
    ]
    return pd.DataFrame(table, columns=LEDGER_COLUMNS)


def exceeded(kept, gone, labels=None):
    labels = pd.DataFrame({"label": [None] * len(gone) if labels is None else labels}, dtype="str")
    found = budget(kept, gone, labels=labels, classes={"label": ["cat"]}, limits=LIMITS)["exceeded"]
    return [excess["of"] for excess in found]


@pytest.mark.parametrize("reason", ["not_a_sample", "unlabelled_copy", "class_in_probation"])
def test_reason_that_is_no_loss_counts_against_no_limit(reason):
    assert exceeded(manifest(("a", "train", "cat", 10)), ledger(("a", reason, 100))) == []


def test_pool_hides_no_loss():
    kept = manifest(("a", "train", "cat", 10), ("a", "pool", None, 1000), ("b", "pool", None, 1000))
    assert exceeded(kept, ledger(("a", "empty_file", 10))) == ["batch a"]


def test_batch_without_labels_is_measured_by_its_pool():
    kept = manifest(("a", "train", "cat", 10), ("b", "pool", None, 100))
    assert exceeded(kept, ledger(("b", "empty_file", 2))) == []
    assert exceeded(kept, ledger(("b", "empty_file", 50))) == ["all samples", "batch b"]


def test_batch_that_lost_its_labelled_samples_is_not_measured_by_its_pool():
    kept = manifest(("a", "train", "cat", 100), ("b", "pool", None, 100))
    assert exceeded(kept, ledger(("b", "empty_file", 2)), labels=["cat", "cat"]) == ["batch b"]


def test_class_of_which_every_sample_is_lost_is_named_with_the_reasons():
    gone = ledger(("a", "unreadable_row", 2), ("a", "class_in_probation", 1), ("a", "empty_file", 1))
    labels = pd.DataFrame({"label": ["eel", "eel", "owl", "cat"]}, dtype="str")
    assert lost_classes(manifest(("a", "train", "cat", 1)), gone, labels=labels) == {
        "label": {"eel": "2 unreadable_row, such as a/unreadable_row0.png (the detail)"}
    }


def test_reasons_are_said_with_counts_and_an_example_the_table_first():
    rows = ledger(("a", "label_missing", 120), ("a", "unreadable_table", 1), ("b", "empty_file", 2), ("b", "torn", 1))
    assert commonest(rows) == (
        "1 unreadable_table, such as a/unreadable_table0.png (the detail); 120 label_missing, such as "
        "a/label_missing0.png (the detail); 2 empty_file, such as b/empty_file0.png (the detail); and 1 other reasons"
    )
    assert commonest(rows[:0]) == ""


def test_name_that_would_steer_a_terminal_is_escaped():
    rows = ledger(("a", "torn", 1)).assign(path="\x1b[31mred\n.png")
    assert commonest(rows) == "1 torn, such as a/\\x1b[31mred\\n.png (the detail)"
