"""Corrections change the labels and the fate of samples as they are validated; the raw data stays as it came."""

import json

import pandas as pd
import pytest

from tasks.data.admission.corrections import Correction, append
from tasks.data.manifest.tables import read_text_table

pytestmark = pytest.mark.usefixtures("great_expectations")
GONE = "f" * 64


@pytest.fixture
def correct(tmp_path):
    def write(who, sample_id, label="", *, target="label", action=None):
        action = action or ("relabel" if label else "set_aside")
        row = Correction(
            sample_id=sample_id, target=target if label else "", label=label, action=action, who=who, note="seen"
        )
        append(tmp_path / "corrections.csv", [row], replaces=False)

    return write


def manifest_in(out, batch="a"):
    return pd.read_parquet(out / "manifest" / f"{batch}.parquet").set_index("sample_id")


def report_in(out):
    return json.loads((out / "validation.json").read_text("utf-8"))


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_file_without_rows_changes_no_byte(land, validate, samples, tmp_path):
    land("a", samples("a", ["cat", "dog"] * 30))
    before = content(validate())
    (tmp_path / "corrections.csv").write_text("sample_id,target,label,action,who,when,note\n", "utf-8")
    assert content(validate()) == before


def test_relabelled_sample_has_the_new_label_on_the_same_side_and_the_old_one_is_listed(
    land, validate, samples, correct
):
    table = samples("a", ["cat", "dog"] * 30)
    land("a", table)
    before = manifest_in(validate())
    sample_id = before.index[before["label"] == "cat"][0]
    correct("Ann", sample_id, "dog")
    out = validate()
    after = manifest_in(out)
    assert after.loc[sample_id, "label"] == "dog"
    pd.testing.assert_frame_equal(after.drop(columns="label"), before.drop(columns="label"))
    assert (after["label"] != before["label"]).sum() == 1
    [line] = read_text_table(out / "corrected.csv").to_dict("records")
    assert (line["came_as"], line["label"], line["who"]) == ("cat", "dog", "Ann")


def test_sample_that_is_set_aside_is_in_the_ledger_with_who_and_why_and_counts_against_no_limit(
    land, validate, samples, correct
):
    table = samples("a", ["cat", "dog"] * 30)
    land("a", table)
    correct("Ann", table["sample_id"][0])
    out = validate(budget={"overall": 0.0})
    assert table["sample_id"][0] not in manifest_in(out).index
    [row] = read_text_table(out / "quarantine.csv").to_dict("records")
    assert row["reason"] == "set_aside_by_hand"
    assert row["detail"].startswith("Ann set it aside on 20")
    assert row["detail"].endswith(": seen")
    assert report_in(out)["batches"]["a"] == {"in": 60, "used": 59, "pool": 0, "quarantined.set_aside_by_hand": 1}


def test_sample_that_two_people_corrected_differently_waits_and_both_lines_are_named(
    land, validate, samples, correct, caplog
):
    table = samples("a", ["cat", "dog"] * 30)
    land("a", table)
    correct("Ann", table["sample_id"][0], "dog")
    correct("Bob", table["sample_id"][0], "cow")
    out = validate()
    [row] = read_text_table(out / "quarantine.csv").to_dict("records")
    assert row["reason"] == "contradicting_corrections"
    [remark] = [each for each in report_in(out)["remarks"] if "differently" in each]
    assert "line 2 (Ann: 'dog') and line 3 (Bob: 'cow'). Which is right?" in remark
    assert remark in caplog.text


def test_corrections_of_samples_that_are_gone_are_counted_with_an_example(land, validate, samples, correct):
    land("a", samples("a", ["cat", "dog"] * 30))
    correct("Ann", GONE, "dog")
    correct("Ann", "e" * 64)
    out = validate()
    assert len(manifest_in(out)) == 60
    [remark] = [each for each in report_in(out)["remarks"] if "no batch has" in each]
    assert remark.startswith("2 corrections of samples that no batch has, such as line 2 (ffffffffffff, Ann: 'dog')")


def test_first_labels_of_a_pool_come_from_corrections_alone(land, validate, samples, correct):
    table = samples("a", ["cat", "dog"] * 30)
    land("a", table.drop(columns="label"))
    for sample_id, label in zip(table["sample_id"], table["label"], strict=True):
        correct("Ann", sample_id, label) if sample_id != table["sample_id"][59] else None
    out = validate()
    manifest = manifest_in(out)
    assert (manifest["split"] == "pool").sum() == 1
    assert manifest["label"].value_counts().to_dict() == {"cat": 30, "dog": 29}


def test_conflicting_copies_are_used_once_a_person_says_which_label_is_right(land, validate, samples, correct):
    table = samples("a", ["cat", "dog"] * 30)
    land("a", table)
    land("b", samples("b", ["cat", "dog"] * 30).pipe(_with_copy, table))
    assert "conflicting_labels" in set(read_text_table(validate() / "quarantine.csv")["reason"])
    correct("Ann", table["sample_id"][0], "dog")
    out = validate()
    assert read_text_table(out / "quarantine.csv")["reason"].tolist() == ["exact_duplicate"]
    assert manifest_in(out).loc[table["sample_id"][0], "label"] == "dog"


def _with_copy(table, other):
    return table.assign(sample_id=[other["sample_id"][0], *table["sample_id"][1:]],
                        label=["cow", *table["label"][1:]])  # fmt: skip


def test_label_of_a_correction_is_merged_as_others_are_and_a_bad_one_is_set_aside(land, validate, samples, correct):
    table = samples("a", ["cat", "dog"] * 30).assign(angle=[str(number % 7) for number in range(60)])
    land("a", table)
    correct("Ann", table["sample_id"][1], "Kitten")
    correct("Ann", table["sample_id"][2], "steep", target="angle")
    out = validate(targets={"label": "classes", "angle": "number"}, merge={"label": {"Kitten": "cat"}})
    assert manifest_in(out).loc[table["sample_id"][1], "label"] == "cat"
    assert read_text_table(out / "labels.csv")["label"].tolist() == ["steep"]


def test_several_labels_that_have_a_column_each_are_corrected(land, validate, samples, correct):
    table = samples("a", ["cat", "dog"] * 30).assign(red=["1", "0"] * 30, round=["0", "1"] * 30)
    land("a", table)
    correct("Ann", table["sample_id"][0], '["red", "round"]', target="traits")
    traits = {"kind": "several", "columns": ["red", "round"]}
    out = validate(targets={"label": "classes", "traits": traits})
    assert json.loads(manifest_in(out).loc[table["sample_id"][0], "traits"]) == ["red", "round"]


def test_correction_of_a_target_that_no_batch_has_is_refused_with_its_line(land, validate, samples, correct):
    table = samples("a", ["cat", "dog"] * 30)
    land("a", table)
    correct("Ann", table["sample_id"][0], "dog", target="lable")
    with pytest.raises(ValueError, match="line 2 of the corrections is about 'lable', which no batch has"):
        validate()


@pytest.mark.parametrize("column", ["split", "group", "sample_id", "width"])
def test_correction_changes_labels_alone_and_moves_no_sample_to_another_side(land, validate, samples, correct, column):
    table = samples("a", ["cat", "dog"] * 30)
    land("a", table)
    correct("Ann", table["sample_id"][0], "train", target=column)
    with pytest.raises(ValueError, match=f"line 2 of the corrections is about '{column}', which is no label"):
        validate()


def test_label_of_a_correction_is_compared_as_those_of_data_are(land, validate, samples, correct):
    table = samples("a", ["caf\u00e9", "1"] * 30)
    land("a", table)
    for place, label in enumerate(["1.0", "cafe\u0301 "]):
        correct("Ann", table["sample_id"][place], label)
    out = validate()
    assert manifest_in(out).loc[table["sample_id"][:2], "label"].tolist() == ["1", "caf\u00e9"]


@pytest.mark.parametrize(
    ("label", "message"),
    [('["red", "blue"]', "line 2 of the corrections has the label 'blue' of traits, expected some of red, round"),
     ('["red"', "line 2 of the corrections: .* is no list of labels")],
)  # fmt: skip
def test_label_that_has_no_column_is_named_and_not_lost(land, validate, samples, correct, label, message):
    table = samples("a", ["cat", "dog"] * 30).assign(red=["1", "0"] * 30, round=["0", "1"] * 30)
    land("a", table)
    correct("Ann", table["sample_id"][0], label, target="traits")
    with pytest.raises(ValueError, match=message):
        validate(targets={"label": "classes", "traits": {"kind": "several", "columns": ["red", "round"]}})
