"""Every sample is admitted to the manifest, or set aside with a reason."""

from collections import Counter
from functools import partial
from math import sqrt

import pandas as pd

from tasks.data.admission.admission import admit
from tasks.data.admission.options import AdmissionOptions, Split
from tasks.data.admission.splits import groups_across_splits, side_of, small_classes
from tasks.targets.classes import Classes
from tasks.targets.kinds import declared_of, targets_of

HALF = partial(side_of, split=Split(salt="graftline", val_fraction=0.25, heldout_fraction=0.25))


def admitted(*tables, targets=("label",), registered=None, fixed=None, min_samples_per_class=1, split=HALF, **kind_of):
    return admit(
        pd.concat(tables, ignore_index=True),
        AdmissionOptions(targets=None, classes=fixed or {}, merge={}, min_samples_per_class=min_samples_per_class),
        targets={name: kind_of.get(name, Classes(())) for name in targets},
        registered=registered or {},
        split=split,
    )


def set_aside(admission):
    """Return the (batch, path, reason) of the samples that were set aside, sorted."""
    return sorted((row.batch, row.path, row.reason) for row in admission.ledger.itertuples())


def test_first_of_equal_samples_in_a_batch_is_used(samples):
    admission = admitted(samples("a", ["cat", "cat", "dog"], ids=["x", "x", "y"]))
    assert set_aside(admission) == [("a", "cat/0001.png", "exact_duplicate")]
    assert admission.ledger["detail"].tolist() == ["the same bytes as a/cat/0000.png"]


def test_copy_in_a_later_batch_is_set_aside_and_names_the_first(samples):
    admission = admitted(samples("b", ["cat"], ids=["x"]), samples("a", ["cat", "cat"], ids=["x", "x"]))
    assert set_aside(admission) == [("a", "cat/0000.png", "exact_duplicate"), ("a", "cat/0001.png", "exact_duplicate")]
    assert set(admission.ledger["detail"]) == {"the same bytes as b/cat/0000.png"}


def test_explicit_heldout_split_of_a_later_copy_holds_out_the_first(samples):
    tables = [samples(batch, ["cat"] * 40, ids=[str(i) for i in range(40)]) for batch in "ab"]
    tables[1]["split"] = "heldout"
    admission = admitted(*tables)
    assert admission.manifest["batch"].tolist() == ["a"] * 40
    assert set(admission.manifest["split"]) == {"heldout"}


def test_heldout_wins_among_the_explicit_splits_of_copies(samples):
    table = samples("a", ["cat", "cat"], ids=["x", "x"]).assign(split=["train", "heldout"])
    assert admitted(table).manifest["split"].tolist() == ["heldout"]


def test_all_copies_with_conflicting_labels_are_set_aside(samples):
    admission = admitted(samples("a", ["cat", "dog"], ids=["x", "y"]), samples("b", ["dog", "cat"], ids=["x", "z"]))
    assert set_aside(admission) == [
        ("a", "cat/0000.png", "conflicting_labels"),
        ("b", "dog/0000.png", "conflicting_labels"),
    ]


def test_conflict_names_the_twin_and_its_label(samples):
    table = samples("a", ["cat", "dog", "eel"], ids=["x", "x", "y"]).assign(colour=["red", "red", "red"])
    later = samples("b", ["eel"], ids=["y"]).assign(colour="blue")
    admission = admitted(table, later, targets=["label", "colour"])
    assert admission.ledger["detail"].tolist() == [
        "the same bytes are 'dog' of label in a/dog/0001.png",
        "the same bytes are 'cat' of label in a/cat/0000.png",
        "the same bytes are 'blue' of colour in b/eel/0000.png",
        "the same bytes are 'red' of colour in a/eel/0002.png",
    ]


def test_conflict_also_sets_aside_the_copies_that_agree(samples):
    admission = admitted(samples("a", ["cat", "cat", "dog"], ids=["x", "x", "x"]))
    assert [reason for *_, reason in set_aside(admission)] == ["conflicting_labels"] * 3


def test_conflict_in_one_target_of_two_is_a_conflict(samples):
    table = samples("a", ["cat", "cat"], ids=["x", "x"]).assign(colour=["red", "blue"])
    admission = admitted(table, targets=["label", "colour"])
    assert [reason for *_, reason in set_aside(admission)] == ["conflicting_labels"] * 2


def test_path_that_a_table_lists_twice_is_used_once(samples):
    table = samples("a", ["cat", "cat"], ids=["x", "x"]).assign(path="one.png")
    admission = admitted(table)
    assert set_aside(admission) == [("a", "one.png", "duplicate_path")]
    assert len(admission.manifest) == 1


def test_path_that_a_table_lists_twice_with_other_labels_is_a_conflict(samples):
    table = samples("a", ["cat", "dog"], ids=["x", "x"]).assign(path="one.png")
    assert [reason for *_, reason in set_aside(admitted(table))] == ["conflicting_labels"] * 2


def unlabelled(table, *numbers):
    table.loc[list(numbers), "label"] = None
    return table


def test_sample_without_a_label_is_in_the_pool_whatever_split_the_data_name(samples):
    table = unlabelled(samples("a", ["cat", "cat"]), 0).assign(split=["heldout", "train"])
    admission = admitted(table)
    assert admission.manifest["split"].tolist() == ["pool", "train"]
    assert admission.ledger.empty


def test_sample_of_the_pool_that_comes_back_with_a_label_is_used_once(samples):
    """Its first copy stays in the ledger as a copy, which no limit counts."""
    first = unlabelled(samples("a", ["cat"] * 3, ids=["x", "y", "z"]), 0, 1, 2).assign(split="heldout")
    admission = admitted(first, samples("b", ["cat", "cat"], ids=["x", "w"]))
    assert set_aside(admission) == [("a", "cat/0000.png", "unlabelled_copy")]
    assert admission.ledger["detail"].tolist() == ["no label, and the same bytes as b/cat/0000.png"]
    used = admission.manifest.set_index("sample_id")["split"]
    assert sorted(used.index) == ["w", "x", "y", "z"]
    assert used["x"] == "heldout"  # named before there was a label
    assert used[["y", "z"]].tolist() == ["pool", "pool"]


def test_copy_in_the_pool_is_there_once(samples):
    admission = admitted(unlabelled(samples("a", ["cat"] * 2, ids=["x", "x"]), 0, 1), samples("b", ["cat"]))
    assert set_aside(admission) == [("a", "cat/0001.png", "unlabelled_copy")]


def test_unlabelled_copy_takes_no_side_in_a_conflict_of_labels(samples):
    table = unlabelled(samples("a", ["cat", "cat", "dog"], ids=["x", "x", "x"]), 0)
    assert [reason for *_, reason in set_aside(admitted(table))] == ["unlabelled_copy"] + ["conflicting_labels"] * 2


def test_sample_with_a_label_of_one_target_of_two_is_used(samples):
    table = samples("a", ["cat", "dog"]).assign(colour=["red", None])
    table.loc[0, "label"] = None
    admission = admitted(table, targets=["label", "colour"])
    assert admission.ledger.empty
    assert declared_of(admission.targets) == {"label": ["dog"], "colour": ["red"]}


def test_sample_of_a_class_that_is_not_allowed_is_set_aside(samples):
    admission = admitted(samples("a", ["cat", "dog", "eel"]), fixed={"label": ["dog", "cat"]})
    assert set_aside(admission) == [("a", "eel/0002.png", "unknown_class")]
    assert admission.ledger["detail"].tolist() == ["class 'eel' of label is not one of the fixed classes"]


def test_new_class_is_in_probation_until_it_has_enough_samples(samples):
    first = samples("a", ["cat"] * 5 + ["eel"] * 2)
    admission = admitted(first, min_samples_per_class=3)
    assert declared_of(admission.targets) == {"label": ["cat"]}
    assert admission.probation == {"label": {"eel": 2}}
    assert [reason for *_, reason in set_aside(admission)] == ["class_in_probation"] * 2
    assert "class 'eel' of label has 2 of 3 samples" in admission.ledger["detail"][0]
    admission = admitted(first, samples("b", ["eel"]), min_samples_per_class=3)
    assert declared_of(admission.targets) == {"label": ["cat", "eel"]}
    assert admission.ledger.empty


def test_sample_of_a_class_in_probation_keeps_its_other_label(samples):
    table = samples("a", ["cat"] * 3 + ["eel"]).assign(colour="red")
    admission = admitted(table, targets=["label", "colour"], min_samples_per_class=2)
    assert admission.ledger.empty
    assert admission.manifest["label"].isna().sum() == 1
    assert declared_of(admission.targets) == {"label": ["cat"], "colour": ["red"]}


def test_registered_class_is_never_in_probation_and_keeps_its_place(samples):
    admission = admitted(
        samples("a", ["ant"] * 5 + ["dog"]), registered={"label": ["dog", "cat"]}, min_samples_per_class=3
    )
    assert declared_of(admission.targets) == {"label": ["dog", "cat", "ant"]}
    assert admission.ledger.empty


def test_ten_thousand_new_samples_change_the_split_of_no_old_one(samples):
    old = samples("a", ["cat", "dog"] * 500)
    more = samples("b", ["cat", "dog", "eel", "ant"] * 2_500)
    before = admitted(old).manifest.set_index("sample_id")["split"]
    after = admitted(old, more).manifest.set_index("sample_id")["split"]
    assert len(after) == 11_000
    assert after[before.index].equals(before)


def test_fractions_of_the_splits_are_met_up_to_chance(samples):
    counts = Counter(admitted(samples("a", ["cat"] * 10_000)).manifest["split"])
    for name, fraction in (("train", 0.5), ("val", 0.25), ("heldout", 0.25)):
        assert abs(counts[name] - 10_000 * fraction) < 4 * sqrt(10_000 * fraction * (1 - fraction))


def test_group_stays_together_across_batches(samples):
    tables = [samples(batch, ["cat"] * 200).assign(group=[f"patient {i % 20}" for i in range(200)]) for batch in "ab"]
    admission = admitted(*tables)
    assert admission.manifest.groupby("group")["split"].nunique().eq(1).all()
    assert admission.manifest["split"].nunique() == 3
    assert groups_across_splits(admission.manifest) == []


def test_explicit_split_wins(samples):
    table = samples("a", ["cat"] * 100).assign(split="val", group="one")
    table.loc[99, "split"] = "heldout"
    admission = admitted(table)
    assert Counter(admission.manifest["split"]) == {"val": 99, "heldout": 1}
    assert groups_across_splits(admission.manifest) == ["one"]


def test_part_of_train_is_val_in_a_batch_that_names_train_and_held_out_alone(samples):
    table = samples("a", ["cat"] * 300).assign(split=["train", "train", "heldout"] * 100)
    later = samples("b", ["cat"] * 100).assign(split="train", group="one")
    before = admitted(table).manifest.set_index("sample_id")["split"]
    after = admitted(table, later).manifest.set_index("sample_id")["split"]
    assert after[before.index].equals(before)
    assert set(after[after.index.difference(before.index)]) == {"train"}
    counts = Counter(before)
    assert counts["heldout"] == 100
    assert abs(counts["val"] - 50) < 4 * sqrt(200 * 0.25 * 0.75)


def test_group_stays_together_where_a_part_of_train_is_val(samples):
    groups = [f"patient {number % 20}" for number in range(300)]
    table = samples("a", ["cat"] * 300).assign(split=["train", "train", "heldout"] * 100, group=groups)
    used = admitted(table).manifest
    assert used[used["split"] != "heldout"].groupby("group")["split"].nunique().eq(1).all()


def test_batch_that_names_val_keeps_its_splits(samples):
    table = samples("a", ["cat"] * 90).assign(split=["train", "val", "heldout"] * 30)
    assert admitted(table).manifest["split"].tolist() == table["split"].tolist()


def test_class_that_is_not_in_every_split_is_reported_with_its_counts(samples):
    table = samples("a", ["cat"] * 3 + ["dog"] * 3)
    table["split"] = ["train", "val", "heldout", "train", "train", "heldout"]
    assert small_classes(table, targets_of({"label": ["cat", "dog", "eel"]})) == [
        "class 'dog' of label has 2 train, 0 val, 1 heldout samples, expected one of each"
    ]


def test_every_sample_is_in_the_manifest_or_in_the_ledger(samples):
    table = samples("a", ["cat", "dog", "eel"] * 20, ids=[f"{i % 35}" for i in range(60)])
    admission = admitted(table, min_samples_per_class=5, fixed={"label": ["cat", "dog"]})
    assert sorted([*admission.manifest["path"], *admission.ledger["path"]]) == sorted(table["path"])
