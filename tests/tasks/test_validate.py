import json
import re

import pandas as pd
import pytest
import yaml

from tasks.data.manifest.tables import read_text_table
from tasks.data.raw.entries import FACTS
from tests.kit.validating import defects, register

pytestmark = pytest.mark.usefixtures("great_expectations")


def report_in(folder):
    return json.loads((folder / "validation.json").read_text("utf-8"))


def ledger_in(folder):
    return read_text_table(folder / "quarantine.csv")


def test_every_file_of_a_batch_is_used_or_quarantined(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30), defects("cat/torn.png", "stray.png"))
    land("b", pd.concat([samples("b", ["cat", "dog"] * 20), samples("a", ["cat"]).assign(path="cat/copy.png")]))
    out = validate()
    assert report_in(out)["batches"] == {
        "a": {"in": 62, "used": 60, "pool": 0, "quarantined.empty_file": 2},
        "b": {"in": 41, "used": 40, "pool": 0, "quarantined.exact_duplicate": 1},
    }
    assert [len(pd.read_parquet(out / "manifest" / f"{batch}.parquet")) for batch in "ab"] == [60, 40]
    assert len(pd.read_csv(out / "quarantine.csv")) == 3


def test_column_of_texts_that_is_taken_for_a_target_is_named(land, validate, samples):
    land("a", samples("a", [f"title {number}" for number in range(150)]))
    with pytest.raises(ValueError, match=r"all 150 classes wait .* or has 'label' no classes"):
        validate()


def test_batch_that_lands_leaves_the_bytes_of_the_old_manifests(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30))
    before = (validate() / "manifest" / "a.parquet").read_bytes()
    land("b", samples("b", ["ant", "dog"] * 30))
    assert (validate() / "manifest" / "a.parquet").read_bytes() == before


def test_class_of_a_batch_that_lands_is_appended(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30))
    land("b", samples("b", ["ant", "dog"] * 30))
    assert json.loads((validate() / "classes.json").read_text("utf-8")) == {"label": ["cat", "dog", "ant"]}


def test_exceeded_budget_stops_the_run_after_the_ledger_is_written(land, validate, samples, tmp_path):
    land("a", samples("a", ["cat", "dog"] * 30), defects(*(f"cat/torn{number}.png" for number in range(15))))
    with pytest.raises(ValueError, match=r"20\.0% of all samples are quarantined, expected at most 10\.0%"):
        validate(budget={"overall": 0.1})
    assert len(pd.read_csv(tmp_path / "validated" / "quarantine.csv")) == 15


def test_budget_that_is_just_met_lets_the_run_go_on(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30), defects(*(f"cat/torn{number}.png" for number in range(15))))
    assert (validate(budget={"overall": 0.2}) / "manifest" / "a.parquet").is_file()


def test_batch_of_defects_alone_says_that_no_picture_is_usable(land, validate, samples, tmp_path):
    land("a", samples("a", ["cat"])[:0], defects("cat/1.png", "cat/2.png"))
    with pytest.raises(ValueError, match=r"no usable samples at all \(2 quarantined\): see .*quarantine\.csv"):
        validate()
    assert len(pd.read_csv(tmp_path / "validated" / "quarantine.csv")) == 2


def test_data_in_which_nothing_has_a_label_waits_and_the_run_says_where_labels_come_from(
    land, validate, samples, tmp_path
):
    land("a", samples("a", ["cat", "dog"]).drop(columns="label"), defects("1.png"))
    with pytest.raises(ValueError, match=r"none of 2 samples has a label \(1 quarantined\): .*labels\.csv\?"):
        validate()
    assert ledger_in(tmp_path / "validated")["reason"].tolist() == ["empty_file"]
    assert pd.read_parquet(tmp_path / "validated/manifest/a.parquet")["split"].tolist() == ["pool", "pool"]


def test_run_whose_only_labels_are_lists_stops_with_the_line_that_learns_them(land, validate, samples):
    land("a", samples("a", ["cat"] * 60).drop(columns="label").assign(tags=['["red","round"]', "[]"] * 30))
    learns = r"none of 60 samples has a label .*'tags' \(it holds lists.* validate\.targets: \{\"tags\": several\}"
    with pytest.raises(ValueError, match=learns):
        validate()


def test_data_of_one_class_is_refused_by_the_expectation_it_breaks(land, validate, samples):
    land("a", samples("a", ["cat"] * 40))
    with pytest.raises(ValueError, match=r"^label has 1 class \('cat'\) in a, expected at least 2 \(validate\.exp"):
        validate()


def test_too_few_samples_are_refused_with_the_number_found(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30))
    with pytest.raises(ValueError, match=r"60 samples can be used, expected at least 61 \(validate\.exp"):
        validate(limits={"min_samples": 61})


def test_listed_batch_that_was_not_scanned_is_named(land, validate, samples, tmp_path):
    land("a", samples("a", ["cat", "dog"] * 30))
    (tmp_path / "batches.yaml").write_text("batches: [a, b]", "utf-8")
    with pytest.raises(ValueError, match=r"b/samples\.parquet is missing, though batch b is listed"):
        validate()


def test_misspelt_domain_to_adapt_to_is_refused_before_anything_is_trained(land, validate, samples):
    for batch, domain in (("a", "photo"), ("b", "cartoon")):
        land(batch, samples(batch, ["cat"] * 20 + ["dog"] * 20).assign(domain=domain))
    validate(adapt_to=["cartoon"])
    with pytest.raises(ValueError, match=r"adapt.targets names the domain cartoons, .* expected one of cartoon, photo"):
        validate(adapt_to=["cartoons"])


def test_file_name_that_looks_like_a_missing_value_stays_what_it_is(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30), defects("NA", "cat/1,2\n.png"))
    assert ledger_in(validate())["path"].tolist() == ["NA", "cat/1,2\n.png"]


def test_same_input_gives_the_same_bytes(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30), defects("cat/torn.png"))

    def contents():
        return {each.name: each.read_bytes() for each in sorted(validate().rglob("*")) if each.is_file()}

    assert contents() == contents()


def test_budget_of_a_batch_stops_the_run_though_that_of_all_is_kept(land, validate, samples, tmp_path):
    land("a", samples("a", ["cat", "dog"] * 100))
    land("b", samples("b", ["cat"]), defects("1.png", "2.png"))
    with pytest.raises(ValueError, match=r"66\.7% of batch b are quarantined, expected at most 30\.0%"):
        validate(budget={"batch": 0.3})
    assert len(ledger_in(tmp_path / "validated")) == 2


def test_budget_of_a_class_stops_the_run_though_the_others_are_kept(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 60), defects(*(f"dog/{i}.png" for i in range(60)), label="dog"))
    with pytest.raises(ValueError, match=r"50\.0% of class 'dog' of label are quarantined, expected at most 40\.0%"):
        validate(budget={"class": 0.4})


def test_fixed_file_is_released_by_the_next_run(land, validate, samples):
    whole = samples("a", ["cat", "dog"] * 30)
    land("a", whole[1:], defects("cat/0000.png", label="cat"))
    assert ledger_in(validate())["path"].tolist() == ["cat/0000.png"]
    land("a", whole)
    assert ledger_in(validate()).empty
    assert report_in(validate())["batches"] == {"a": {"in": 60, "used": 60, "pool": 0}}


def test_samples_in_probation_count_against_no_budget(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30 + ["eel"] * 2))
    out = validate(budget={"overall": 0.0, "batch": 0.0, "class": 0.0})
    assert ledger_in(out)["reason"].tolist() == ["class_in_probation"] * 2
    assert report_in(out)["probation"] == {"label": {"count": 1, "named": {"eel": 2}}}


def test_class_that_went_from_all_batches_is_told_with_what_it_may_be_called_now(
    land, validate, samples, tmp_path, caplog
):
    land("a", samples("a", ["cats", "dog"] * 30))
    register(tmp_path, {"label": ["cat", "dog"], "colour": ["red"]})
    out = validate()
    assert json.loads((out / "classes.json").read_text("utf-8")) == {"label": ["cat", "dog", "cats"]}
    assert report_in(out)["without_samples"] == {
        "label": {"count": 1, "named": ["cat"]},
        "colour": {"count": 1, "named": ["red"]},
    }
    assert "batch a has class 'cats' of label where others have 'cat': is it renamed?" in caplog.text
    assert "registered classes of colour have no samples: 'red'" in caplog.text


def test_long_lists_of_changed_classes_are_cut_and_counted(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30 + [f"old {i}" for i in range(300)]))
    land("b", samples("b", ["cat", "dog"] * 30 + [f"new {i}" for i in range(300)]))
    changes = report_in(validate(budget={"overall": 1.0}))["class_changes"]["label"]["b"]
    assert (changes["new"]["count"], len(changes["new"]["named"])) == (300, 50)


def test_batch_of_which_nothing_is_used_breaks_the_expectation_of_its_size(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30))
    land("b", samples("b", ["cat"])[:0])
    out = validate(severity="warning")
    unmet = [each for each in report_in(out)["expectations"] if not each["success"]]
    assert [(each["column"], each["observed"]) for each in unmet] == [("num_samples", 0)]


@pytest.mark.parametrize("name", ["train", "val", "aspect_ratio", "batch_", "0", "index", "reason"])
def test_target_may_be_called_nearly_anything(land, validate, samples, name):
    land("a", samples("a", ["cat", "dog"] * 30).rename(columns={"label": name}))
    assert json.loads((validate() / "classes.json").read_text("utf-8")) == {name: ["cat", "dog"]}


def test_data_of_which_every_class_waits_says_what_to_do(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 2))
    with pytest.raises(
        ValueError, match=r"all 2 classes wait for more samples, .* or lower validate\.min_samples_per_class"
    ):
        validate(min_samples_per_class=5)


def test_registered_order_is_kept_and_extended(land, validate, samples, tmp_path):
    land("a", samples("a", ["ant", "cat", "dog"] * 30))
    register(tmp_path, {"label": ["dog", "gone", "cat"]}, version=4)
    out = validate()
    assert json.loads((out / "classes.json").read_text("utf-8")) == {"label": ["dog", "gone", "cat", "ant"]}
    assert report_in(out)["registry_version"] == 4


def test_class_too_small_for_every_split_is_an_error_that_says_what_to_do(land, validate, samples, tmp_path):
    table = samples("a", ["cat", "dog"] * 30 + ["eel"] * 5)
    table.loc[table["label"] == "eel", "split"] = "train"
    land("a", table)
    with pytest.raises(ValueError, match=r"class 'eel' .* 5 train, 0 val, 0 heldout .*: add samples of it, .*or raise"):
        validate()
    assert len(report_in(tmp_path / "validated")["splits"]) == 1


def test_warning_is_told_and_lets_the_run_go_on(land, validate, samples, caplog):
    land("a", samples("a", ["cat", "dog"] * 30))
    land("b", samples("b", ["cat"] * 60))
    out = validate(severity="warning", limits={"max_label_drift": 0.3})
    [unmet] = [each for each in report_in(out)["expectations"] if not each["success"]]
    assert (unmet["column"], unmet["severity"]) == ("significant_distance", "warning")
    assert "warning: the labels differ from those of the batches before: batch b by 0.50 in label" in caplog.text


def test_class_that_looks_renamed_is_told(land, validate, samples, caplog):
    land("a", samples("a", ["cat", "dog"] * 30))
    land("b", samples("b", ["cats", "dog"] * 30))
    changes = report_in(validate())["class_changes"]["label"]["b"]
    assert changes["perhaps_renamed"] == {"count": 1, "named": [["cat", "cats"]]}
    assert "is it renamed?" in caplog.text


def test_column_of_one_batch_is_in_no_manifest_of_another(land, validate, samples):
    """Otherwise the old batches would have to be embedded again."""
    land("a", samples("a", ["cat", "dog"] * 30))
    before = (validate() / "manifest" / "a.parquet").read_bytes()
    land("b", samples("b", ["cat", "dog"] * 30).assign(colour=["red", "blue"] * 30))
    out = validate(targets=["label", "colour"])
    assert (out / "manifest" / "a.parquet").read_bytes() == before
    assert json.loads((out / "classes.json").read_text("utf-8"))["colour"] == ["blue", "red"]


def test_column_of_numbers_of_which_each_stands_alone_is_no_target(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30).assign(serial=[f"n{i}" for i in range(60)]))
    out = validate()
    assert json.loads((out / "classes.json").read_text("utf-8")) == {"label": ["cat", "dog"]}
    assert report_in(out)["passed_over"] == {"serial": "no value of it has 3 samples"}
    assert list(report_in(out)["probation"]) == ["label"]


def test_only_chosen_columns_are_learned_and_the_others_stay_in_the_manifest(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30).assign(colour=["red", "blue"] * 30))
    out = validate(targets=["colour"])
    assert list(json.loads((out / "classes.json").read_text("utf-8"))) == ["colour"]
    kept = pd.read_parquet(out / "manifest" / "a.parquet")
    assert set(kept.columns) >= {*FACTS} - {"perceptual_hash"} | {"label", "colour", "group", "domain", "split"}


def unlabelled(table):
    return table.drop(columns="label").assign(path=[f"{number}.png" for number in range(len(table))])


def test_batch_without_labels_waits_in_the_pool_outside_every_limit(land, validate, samples, caplog):
    land("a", samples("a", ["cat", "dog"] * 30))
    before = (validate() / "manifest/a.parquet").read_bytes()
    land("b", unlabelled(samples("b", ["cat"] * 500)), defects("readme.txt").assign(reason="not_a_sample"))
    caplog.set_level("INFO", "graftline")
    out = validate(budget={"overall": 0.0, "batch": 0.0, "class": 0.0}, limits={"max_missing_labels": 0.0})
    assert report_in(out)["batches"]["b"] == {"in": 501, "used": 0, "pool": 500, "quarantined.not_a_sample": 1}
    assert set(pd.read_parquet(out / "manifest/b.parquet")["split"]) == {"pool"}
    assert (out / "manifest/a.parquet").read_bytes() == before
    assert "validated 60 samples of 2 classes, 500 without a label in the pool, 0 quarantined, 1 others" in caplog.text


def test_targets_are_shown_with_the_counts_of_their_classes(land, validate, samples, caplog):
    land("a", samples("a", ["cat", "dog", "dog"] * 20).assign(colour="red"))
    caplog.set_level("INFO", "graftline")
    validate(limits={"min_classes": 1})
    assert "target label: 'dog' 40, 'cat' 20\n" in caplog.text
    assert "target colour: 'red' 60\n" in caplog.text


def test_column_that_is_not_learned_is_said_with_what_would_learn_it(land, validate, samples, caplog):
    land("a", samples("a", ["cat", "dog"] * 30).assign(patient_id=["p1", "p2"] * 30))
    out = validate()
    remark = (
        "not learned: 'patient_id' (its name is that of an id or a time). To learn a column too, name the targets: "
        'validate.targets: ["label", "patient_id"]'
    )
    assert report_in(out)["remarks"] == [remark]
    assert f"warning: {remark}" in caplog.text
    assert report_in(validate(targets=["label"]))["remarks"] == []


def test_batch_that_calls_the_target_otherwise_is_asked_about(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30))
    land("b", samples("b", ["cat", "dog"] * 30).rename(columns={"label": "class"}))
    out = validate()
    assert list(json.loads((out / "classes.json").read_text("utf-8"))) == ["label"]
    assert report_in(out)["batches"]["b"]["pool"] == 60
    assert report_in(out)["remarks"] == [
        "batch b has no 'label', but its 'class' has the same classes ('cat', 'dog'): is it 'label'? Then call the "
        "column 'label' there"
    ]


def test_line_that_is_said_merges_two_spellings(land, validate, samples, tmp_path):
    land("a", samples("a", ["cat", "dog"] * 30))
    land("b", samples("b", ["Cat", "dog"] * 10), defects("Cat/torn.png", label="Cat"))
    [remark] = report_in(validate())["remarks"]
    assert remark.startswith('label has 1 pair of classes that differ in spelling alone: "cat" (30) and "Cat" (10).')
    merge = yaml.safe_load(remark.partition("validate.merge: ")[2].partition(";")[0])
    out = validate(merge=merge)
    assert json.loads((out / "classes.json").read_text("utf-8")) == {"label": ["cat", "dog"]}
    assert report_in(out)["remarks"] == []
    assert set(pd.read_parquet(out / "manifest/b.parquet")["label"]) == {"cat", "dog"}
    with pytest.raises(ValueError, match=r"class 'cat' of label are quarantined"):
        validate(merge=merge, budget={"class": 0.0})


def test_cell_of_several_classes_is_asked_about(land, validate, samples):
    land("a", samples("a", ["red", "round", "red|round"] * 20))
    [remark] = report_in(validate())["remarks"]
    assert remark.startswith('label has 1 class with the names of several: "red|round" (20).')


def test_class_that_is_called_as_if_there_were_no_label_is_asked_about(land, validate, samples):
    land("a", samples("a", ["cat", "dog", "NaN"] * 20))
    [remark] = report_in(validate())["remarks"]
    assert remark.startswith('label has 1 class called as if there were no label: "NaN" (20).')
    merge = yaml.safe_load(remark.partition("validate.merge: ")[2])
    assert report_in(validate(merge=merge))["remarks"] == []


def test_classes_that_all_hold_the_same_folders_are_asked_about(land, validate, samples):
    table = samples("a", ["0_train", "1_test"] * 20 + ["1_test", "0_train"] * 20)
    inner = ["cat/"] * 40 + ["dog/"] * 40
    land(
        "a", table.assign(path=[path.replace("/", f"/{name}") for path, name in zip(table["path"], inner, strict=True)])
    )
    [remark] = report_in(validate())["remarks"]
    assert remark.startswith(
        "batch a has the classes '0_train', '1_test', and each holds the same folders ('cat', 'dog')"
    )


def test_batch_without_a_side_to_judge_on_is_told_what_to_call_it(land, validate, samples):
    table = samples("a", ["cat", "dog"] * 30)
    land("a", table.assign(split=["train"] * 40 + ["val"] * 20))
    with pytest.raises(
        ValueError, match=r"^batch a names train and val, but no held-out: .* call it test; .* 0 heldout"
    ):
        validate()


def test_folder_around_all_class_folders_is_asked_about(land, validate, samples, tmp_path):
    table = samples("a", ["cat", "dog"] * 30)
    land("a", table.assign(path="pets/" + table["path"], label="pets"))
    with pytest.raises(
        ValueError, match=r"^batch a has one class, .*'pets' \('cat', 'dog'\): is it one folder too deep"
    ):
        validate()
    assert len(report_in(tmp_path / "validated")["remarks"]) == 1


def test_later_batch_that_is_one_folder_too_deep_stops_the_run(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30))
    table = samples("b", ["cat", "dog"] * 30)
    land("b", table.assign(path="pets/" + table["path"], label="pets"))
    with pytest.raises(
        ValueError, match=r"batch b .* is it one folder too deep\?.* called like a class of other batches"
    ):
        validate(limits={"max_label_drift": 1.0})


def test_stop_says_the_commonest_reasons_the_table_first(land, validate, samples):
    table = defects("labels.csv").assign(reason="unreadable_table", detail="columns image, class; expected path")
    land("a", unlabelled(samples("a", ["cat"] * 20)), pd.concat([table, defects("1.png", "2.png")]))
    with pytest.raises(
        ValueError, match=r"Set aside: 1 unreadable_table, such as a/labels\.csv \(columns image, .*\); 2 empty_file"
    ):
        validate()


def test_later_batch_whose_table_cannot_be_read_stops_the_run_though_its_files_wait(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30))
    table = defects("labels.csv").assign(reason="unreadable_table", detail="not UTF-8: save it as UTF-8")
    land("b", unlabelled(samples("b", ["cat"] * 200)), table)
    with pytest.raises(ValueError, match=r"nothing of batch b can be used, .* b/labels\.csv \(not UTF-8: save it as"):
        validate()


def test_class_of_which_every_row_is_lost_is_said_by_name(land, validate, samples, caplog):
    land("a", samples("a", ["cat", "dog"] * 30), defects("eel/1.png", "eel/2.png", label="eel"))
    out = validate()
    assert list(report_in(out)["lost_classes"]["label"]) == ["eel"]
    assert "every sample of class 'eel' of label is lost: 2 empty_file, such as a/eel/1.png" in caplog.text


def test_batch_that_names_no_val_is_said_to_give_a_part_of_train(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 60).assign(split=["train", "train", "heldout"] * 40))
    [remark] = report_in(validate(limits={"max_missing_labels": 1.0}))["remarks"]
    assert remark.startswith("batch a names train and held-out, but no val: a part of its train samples is val")


KINDS = {
    "label": "classes",
    "angle": {"kind": "number", "unit": "degrees"},
    "tags": "several",
    "grade": {"kind": "ordinal", "steps": ["poor", "fair", "good"]},
}


def of_kinds(samples, batch="a", num=60, **changes):
    """A batch with a target of each kind."""
    columns = {
        "angle": [str(number * 7 % 360) for number in range(num)],
        "tags": ["red|round", "round", "[]", '["red"]'] * (num // 4),
        "grade": ["poor", "fair", "good", "fair", "poor"] * (num // 5),
    }
    return samples(batch, ["cat", "dog"] * (num // 2)).assign(**columns | changes).astype({"angle": "str"})


def read(out, batch="a"):
    """Return the manifest of a batch in the order of the rows that landed."""
    table = pd.read_parquet(out / f"manifest/{batch}.parquet")
    return table.iloc[table["path"].str[-8:].argsort()].reset_index(drop=True)


def labels_in(out):
    table = read_text_table(out / "labels.csv")
    return [tuple(row) for row in table[["path", "target", "label", "reason"]].to_numpy()]


def replaced(values, **at):
    """Return values with others at some places, such as x3 for the fourth."""
    changed = list(values)
    for place, value in at.items():
        changed[int(place[1:])] = value
    return changed


def test_target_of_each_kind_has_labels_in_one_form_and_its_facts(land, validate, samples):
    land("a", of_kinds(samples, tags=[" round|red", "round", "[]", '["red", "red"]'] * 15))
    out = validate(targets=KINDS)
    assert json.loads((out / "classes.json").read_text("utf-8")) == {
        "label": ["cat", "dog"],
        "angle": {"kind": "number", "level": 0.9, "loss": "squared", "unit": "degrees"},
        "tags": {"kind": "several", "labels": ["red", "round"]},
        "grade": {"kind": "ordinal", "steps": ["poor", "fair", "good"]},
    }
    assert set(read(out)["tags"]) == {'["red","round"]', '["round"]', "[]", '["red"]'}
    assert read(out)["angle"].tolist()[:3] == ["0.0", "7.0", "14.0"]
    counted = report_in(out)["classes"]
    assert sum(counted["tags"]["red"].values()) == 30
    assert sum(counted["grade"]["poor"].values()) == 24
    assert sum(of["count"] for of in counted["angle"].values()) == 60
    assert labels_in(out) == []
    assert report_in(out)["labels"]["tags"] == {
        "given": 60, "used": 60, "of_quarantined_samples": 0, "set_aside": {},
    }  # fmt: skip


def test_bad_label_is_set_aside_and_its_sample_keeps_the_others(land, validate, samples, caplog):
    table = of_kinds(samples)
    bad = table.assign(
        angle=replaced(table["angle"], x0="north", x1="inf", x2="nan"),
        tags=replaced(table["tags"], x3="red||round", x4="|".join(map(str, range(1001)))),
        grade=replaced(table["grade"], x5="superb"),
    )
    land("a", bad)
    out = validate(targets=KINDS)
    assert report_in(out)["batches"]["a"] == {"in": 60, "used": 60, "pool": 0}
    assert sorted((target, label[:10], reason) for _, target, label, reason in labels_in(out)) == [
        ("angle", "inf", "no_number"), ("angle", "nan", "no_number"), ("angle", "north", "no_number"),
        ("grade", "superb", "unknown_step"), ("tags", "0|1|2|3|4|", "no_labels"), ("tags", "red||round", "no_labels"),
    ]  # fmt: skip
    assert max(len(label) for _, _, label, _ in labels_in(out)) == 200
    assert report_in(out)["labels"]["angle"]["set_aside"] == {"no_number": 3}
    assert "3 of 60 labels of angle are set aside, see labels.csv: 3 no_number" in caplog.text
    with pytest.raises(ValueError, match=r"5\.0% of the labels of angle are set aside, expected at most 4\.0%: mend"):
        validate(targets=KINDS, budget={"overall": 0.04})


def test_sample_whose_only_label_is_bad_waits_in_the_pool(land, validate, samples):
    table = of_kinds(samples, label=None)
    land("a", table.assign(angle=replaced(table["angle"], x0="north")))
    out = validate(targets={"angle": "number"})
    assert report_in(out)["batches"]["a"] == {"in": 60, "used": 59, "pool": 1}
    assert read(out)["angle"].isna().sum() == 1


def test_column_a_label_is_joined_to_a_target(land, validate, samples):
    table = samples("a", ["cat", "dog"] * 30).assign(
        even=replaced(["1", "0", "yes", "no"] * 15, x0="maybe", x1=None, x2=None),
        loop=replaced(["1", "0"] * 30, x2=None),
    )
    land("a", table)
    land("b", samples("b", ["cat", "dog"] * 5))
    out = validate(targets={"label": "classes", "has": {"kind": "several", "columns": ["even", "loop"]}})
    assert json.loads((out / "classes.json").read_text("utf-8"))["has"] == {
        "kind": "several", "labels": ["even", "loop"], "columns": ["even", "loop"],
    }  # fmt: skip
    given = read(out)
    assert given["has"].isna().sum() == 3
    assert given["has"].value_counts().to_dict() == {'["even","loop"]': 28, "[]": 29}
    assert [(label, reason) for _, _, label, reason in labels_in(out)] == [
        ('{"even": "maybe", "loop": "1"}', "no_labels"), ('{"even": null, "loop": "0"}', "no_labels"),
    ]  # fmt: skip
    assert "has" not in read(out, "b")
    with pytest.raises(ValueError, match=r"joins 'odd' to 'has', and no batch has such a column"):
        validate(targets={"has": {"kind": "several", "columns": ["odd"]}})


def test_label_waits_and_is_left_out_of_its_samples_until_enough_have_it(land, validate, samples):
    land("a", of_kinds(samples, tags=replaced(["red|round", "round", "[]", "red"] * 15, x0="red|rare", x1="rare")))
    targets = {"label": "classes", "tags": "several"}
    out = validate(targets=targets)
    assert json.loads((out / "classes.json").read_text("utf-8"))["tags"]["labels"] == ["red", "round"]
    assert read(out)["tags"].tolist()[:2] == ['["red"]', "[]"]
    assert [row[1:] for row in labels_in(out)] == [("tags", "rare", "class_in_probation")] * 2
    assert report_in(out)["probation"]["tags"] == {"count": 1, "named": {"rare": 2}}
    land("b", of_kinds(samples, "b", 60, tags="rare|blue"))
    out = validate(targets=targets, limits={"max_label_drift": 1.0})
    assert json.loads((out / "classes.json").read_text("utf-8"))["tags"]["labels"] == ["red", "round", "blue", "rare"]
    assert read(out)["tags"].tolist()[0] == '["rare","red"]'


def test_labels_that_are_merged_are_one_label(land, validate, samples):
    land("a", of_kinds(samples, tags=["round", "red|Red", "[]", "Red"] * 15))
    out = validate(targets=KINDS, merge={"tags": {"Red": "red"}})
    assert set(read(out)["tags"]) == {'["red"]', '["round"]', "[]"}


def test_class_that_a_sample_loses_beside_another_label_is_listed(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30).assign(colour=["red"] * 58 + ["blue"] * 2))
    out = validate(limits={"min_classes": 1})
    assert [row[1:] for row in labels_in(out)] == [("colour", "blue", "class_in_probation")] * 2
    assert report_in(out)["labels"]["colour"]["set_aside"] == {"class_in_probation": 2}


def test_project_of_classes_alone_has_no_more_keys(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30))
    out = validate()
    assert (out / "labels.csv").read_text("utf-8") == '"batch","path","sample_id","target","label","reason","detail"\n'
    assert {"labels", "lost_labels", "kinds"}.isdisjoint(report_in(out))


def test_kind_is_proposed_with_its_reason(land, validate, samples, caplog):
    caplog.set_level("INFO", "graftline")
    land(
        "a",
        of_kinds(samples, tags=["round|blue", "red|blue", "red|round"] * 20, size=["small", "medium", "large"] * 20),
    )
    out = validate(targets=dict.fromkeys(["label", "angle", "tags", "size"], "auto"))
    assert {name: own["kind"] for name, own in report_in(out)["kinds"].items()} == {
        "label": "classes", "angle": "number", "tags": "several", "size": "ordinal",
    }  # fmt: skip
    assert json.loads((out / "classes.json").read_text("utf-8"))["size"]["steps"] == ["small", "medium", "large"]
    assert "target angle is of the kind number: it has 60 different numbers from 0 to 357" in caplog.text


def test_number_that_is_learned_as_classes_is_asked_about_with_a_line_that_works(land, validate, samples, tmp_path):
    land("a", of_kinds(samples, angle=[str(number % 40) for number in range(80)], num=80))
    settings = {"limits": {"min_class_fraction": 0.0}, "min_samples_per_class": 1}
    with pytest.raises(ValueError, match="class"):  # too few samples of each number
        validate(targets=["label", "angle"], **settings)
    [remark] = report_in(tmp_path / "validated")["remarks"]
    assert remark.startswith("angle is learned as classes, and it has 40 different numbers from 0 to 39: is it")
    targets = yaml.safe_load(remark.partition("validate.targets: ")[2].partition(";")[0])
    assert targets == {"label": "classes", "angle": "number"}
    assert report_in(validate(targets=targets))["remarks"] == []


def test_column_of_lists_is_asked_about_and_learned_by_the_line_that_is_said(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30).assign(tags=['["red","round"]', "[]", '["red"]'] * 20))
    [remark] = report_in(validate())["remarks"]
    assert remark.startswith("not learned: 'tags' (it holds lists, such as of labels).")
    targets = yaml.safe_load(remark.partition("validate.targets: ")[2])
    assert json.loads((validate(targets=targets) / "classes.json").read_text("utf-8"))["tags"]["kind"] == "several"


def test_scale_without_steps_is_refused_unless_it_is_known(land, validate, samples):
    land("a", of_kinds(samples, grade=["a", "b", "c"] * 20))
    with pytest.raises(ValueError, match=r"makes 'grade' ordinal without steps: name them from the lowest"):
        validate(targets={"grade": "ordinal"})
    land("a", of_kinds(samples))
    out = validate(targets={"grade": "ordinal"})
    assert json.loads((out / "classes.json").read_text("utf-8"))["grade"]["steps"] == ["poor", "fair", "good"]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (
            {"angle": "classes"},
            "makes 'angle' of the kind classes, but the model in use has it as number",
        ),
        (
            {"grade": {"kind": "ordinal", "steps": ["fair", "poor", "good"]}},
            "the steps fair, poor, good, but",
        ),
    ],
)
def test_target_in_use_keeps_its_kind_and_its_steps(land, validate, samples, tmp_path, targets, words):
    land("a", of_kinds(samples))
    facts = {
        "angle": {"kind": "number", "unit": "degrees", "level": 0.9, "loss": "huber"},
        "grade": {"kind": "ordinal", "steps": ["poor", "fair", "good"]},
        "tags": {"kind": "several", "labels": ["round", "gone"]},
    }
    register(tmp_path, facts)
    with pytest.raises(ValueError, match=re.escape(words)):
        validate(targets=targets)
    for same in (None, dict.fromkeys(facts, "auto"), ["angle", "grade", "tags"]):
        out = validate(targets=same)
        known = facts | {"tags": {"kind": "several", "labels": ["round", "gone", "red"]}}
        assert json.loads((out / "classes.json").read_text("utf-8")) == known


def test_target_without_any_label_is_left_out_and_changes_no_byte_of_the_others(land, validate, samples, caplog):
    land("a", of_kinds(samples))
    targets = {"label": "classes", "angle": "number"}
    before = {path.name: path.read_bytes() for path in validate(targets=targets).rglob("*.*") if path.is_file()}
    out = validate(targets={"label": "classes", "angle": "number", "angel": "number"})
    after = {path.name: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    assert {name for name in before if before[name] != after[name]} == {"validation.json"}
    assert "no batch has a label of 'angel': it is left out; is it the column 'angle'?" in caplog.text


def test_domain_and_group_are_targets_where_they_are_named(land, validate, samples):
    groups = [f"g{number // 3}" for number in range(60)]
    table = samples("a", ["cat", "dog"] * 30).assign(domain=["photo"] * 40 + ["sketch"] * 20, group=groups)
    land("a", table)
    known = json.loads((validate(targets=["label", "domain"]) / "classes.json").read_text("utf-8"))
    assert known == {"label": ["cat", "dog"], "domain": ["photo", "sketch"]}
    out = validate(targets={"label": "classes", "group": "classes"}, min_samples_per_class=30)
    assert read(out).groupby(table["group"])["split"].nunique().max() == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"angle": "5"}, "target 'angle' is constant: every label of train is 5.0, expected different numbers"),
        ({"grade": "fair"}, "target 'grade' is constant: every label of train is 'fair', expected each of its steps"),
        ({"tags": ["red|round", "red"] * 30}, "label 'red' of tags is constant: all "),
    ],
)
def test_constant_target_is_refused_by_name(land, validate, samples, changes, words):
    land("a", of_kinds(samples, **changes))
    with pytest.raises(ValueError, match=re.escape(words)):
        validate(targets=KINDS)


@pytest.mark.parametrize("split", ["train", "val", "heldout"])
def test_target_without_labels_on_a_side_is_refused_by_name(land, validate, samples, split):
    table = of_kinds(samples).assign(split=["train", "val", "heldout"] * 20)
    land("a", table.assign(angle=table["angle"].where(table["split"] != split)))
    with pytest.raises(ValueError, match=f"target 'angle' has no label in {split}, expected some in each split"):
        validate(targets={"label": "classes", "angle": "number"})


def test_drift_of_numbers_and_of_a_label_names_the_batch(land, validate, samples):
    land("a", of_kinds(samples))
    land("b", of_kinds(samples, "b", angle=[str(1000 + number) for number in range(60)], tags="red|round"))
    with pytest.raises(ValueError, match=r"batch b by 1\.00 in angle, batch b by 0\.50 in tags, expected at most 0\.4"):
        validate(targets=KINDS, limits={"max_label_drift": 0.4})


def test_more_labels_than_a_head_can_have_are_refused_in_a_line(land, validate, samples):
    many = ["|".join(f"w{row * 100 + place}" for place in range(100)) for row in range(60)]
    land("a", of_kinds(samples, tags=many))
    with pytest.raises(ValueError, match=r"tags has 6,000 different labels, expected at most 5,000: is its separator"):
        validate(targets=KINDS, min_samples_per_class=1)


def test_column_of_numbers_is_learned_by_the_line_that_is_said(land, validate, samples):
    angles = [str(number // 3) for number in range(120)]
    land("a", of_kinds(samples, num=120, angle=angles).drop(columns=["tags", "grade"]))
    [remark] = report_in(validate())["remarks"]
    targets = yaml.safe_load(remark.partition("validate.targets: ")[2])
    assert targets == {"label": "classes", "angle": "number"}
    assert json.loads((validate(targets=targets) / "classes.json").read_text("utf-8"))["angle"]["kind"] == "number"


def test_column_of_lists_without_a_label_is_left_out_with_a_warning(land, validate, samples, caplog):
    land("a", of_kinds(samples, tags="[]", grade=None))
    assert set(json.loads((validate(targets=KINDS) / "classes.json").read_text("utf-8"))) == {"label", "angle"}
    for name in ("tags", "grade"):
        assert f"no batch has a label of {name!r}: it is left out\n" in caplog.text


def test_another_separator_is_asked_about(land, validate, samples):
    table = of_kinds(samples, tags=["red;round", "red;blue", "blue;round", "red", "[]"] * 12)
    land("a", table)
    [remark] = report_in(validate(targets=KINDS))["remarks"]
    assert "labels of tags have ';' in them" in remark
    said = yaml.safe_load(f"{{{remark.partition('write ')[2].partition(' in validate.targets')[0]}}}")
    out = validate(targets=KINDS | said)
    assert report_in(out)["remarks"] == []
    assert json.loads((out / "classes.json").read_text("utf-8"))["tags"]["labels"] == ["blue", "red", "round"]
    assert report_in(validate(targets=KINDS | {"tags": {"kind": "several", "separator": "|"}}))["remarks"] == []


def test_half_of_a_character_is_a_bad_label(land, validate, samples):
    table = of_kinds(samples)
    land("a", table.assign(tags=replaced(table["tags"], x3='["\\ud800"]')))
    assert [row[1:] for row in labels_in(validate(targets=KINDS))] == [("tags", '["\\ud800"]', "no_labels")]


@pytest.mark.parametrize("column", ["width", "path", "split"])
def test_column_of_a_sample_itself_is_no_label(land, validate, samples, column):
    land("a", of_kinds(samples))
    with pytest.raises(ValueError, match=f"joins '{column}' to 'x', expected columns of labels: take it out"):
        validate(targets={"x": {"kind": "several", "columns": [column, "label"]}})


@pytest.mark.parametrize("targets", [None, ["has"], {"has": "several"}])
def test_target_in_use_keeps_its_columns_of_labels(land, validate, samples, tmp_path, targets):
    table = samples("a", ["cat", "dog"] * 30).assign(even=["1", "0"] * 30, loop=["1", "1", "0"] * 20)
    land("a", table)
    facts = {"has": {"kind": "several", "labels": ["even", "loop"], "columns": ["even", "loop"]}}
    register(tmp_path, facts)
    out = validate(targets=targets)
    assert json.loads((out / "classes.json").read_text("utf-8")) == facts
    assert {"even", "loop"}.isdisjoint(report_in(out)["passed_over"])
    register(tmp_path, {"has": {"kind": "several", "labels": ["even", "gone"], "columns": ["even", "gone"]}})
    with pytest.raises(ValueError, match="gone"):
        validate(targets=targets)
