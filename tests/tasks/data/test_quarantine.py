import pandas as pd

from tasks.data.quarantine import LEDGER_COLUMNS, exact_duplicates, small_classes, without


def duplicates(*tables):
    return exact_duplicates(pd.concat(tables, ignore_index=True), targets=["label"])


def places(ledger):
    return sorted((row.batch, row.path, row.reason) for row in ledger.itertuples())


def test_first_of_equal_pictures_in_a_batch_stays(samples):
    ledger = duplicates(samples("a", ["cat", "cat", "dog"], ids=["x", "x", "y"]))
    assert places(ledger) == [("a", "cat/0001.png", "exact_duplicate")]
    assert ledger["detail"].tolist() == ["the same bytes as a/cat/0000.png"]


def test_copy_in_a_later_batch_goes_and_names_the_first(samples):
    ledger = duplicates(samples("a", ["cat"], ids=["x"]), samples("b", ["cat", "cat"], ids=["x", "x"]))
    assert places(ledger) == [("b", "cat/0000.png", "exact_duplicate"), ("b", "cat/0001.png", "exact_duplicate")]
    assert set(ledger["detail"]) == {"the same bytes as a/cat/0000.png"}


def test_all_copies_with_conflicting_labels_go(samples):
    ledger = duplicates(samples("a", ["cat", "dog"], ids=["x", "y"]), samples("b", ["dog", "cat"], ids=["x", "z"]))
    assert places(ledger) == [
        ("a", "cat/0000.png", "conflicting_labels"),
        ("b", "dog/0000.png", "conflicting_labels"),
    ]


def test_conflict_sets_aside_the_copies_that_agree_as_well(samples):
    ledger = duplicates(samples("a", ["cat", "cat", "dog"], ids=["x", "x", "x"]))
    assert ledger["reason"].tolist() == ["conflicting_labels"] * 3


def test_different_pictures_leave_the_ledger_empty(samples):
    ledger = duplicates(samples("a", ["cat", "dog"]))
    assert ledger.empty
    assert list(ledger.columns) == LEDGER_COLUMNS


def test_class_missing_from_a_split_goes_with_its_counts(samples):
    table = samples("a", ["cat"] * 3 + ["dog"] * 3)
    table["split"] = ["train", "val", "heldout", "train", "train", "heldout"]
    ledger = small_classes(table, target="label")
    assert ledger["path"].tolist() == ["dog/0003.png", "dog/0004.png", "dog/0005.png"]
    assert set(ledger["detail"]) == {
        "class 'dog' has 2 train, 0 val, 1 heldout samples, expected one of each: add samples of it"
    }


def test_classes_in_every_split_stay(samples):
    table = samples("a", ["cat"] * 3).assign(split=["train", "val", "heldout"])
    assert small_classes(table, target="label").empty


def test_only_named_samples_are_taken_out(samples):
    table = pd.concat([samples("a", ["cat", "dog"]), samples("b", ["cat", "dog"])], ignore_index=True)
    ledger = pd.DataFrame({"batch": ["b"], "path": ["cat/0000.png"]})
    left = without(table, ledger)
    assert list(zip(left["batch"], left["path"], strict=True)) == [
        ("a", "cat/0000.png"),
        ("a", "dog/0001.png"),
        ("b", "dog/0001.png"),
    ]
