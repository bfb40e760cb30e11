import json
import re
import sys

import pandas as pd
import pytest

from tasks.data.admission.expectations import check_expectations, make_examination, write_data_docs
from tasks.data.admission.options import ExpectationLimit, ExpectationLimits, ExpectationOptions
from tasks.targets.classes import Classes
from tests.kit.programs import run

pytestmark = pytest.mark.usefixtures("great_expectations")

IMAGE, TEXT = ("format", "mode", "width", "height"), ("characters", "words", "has_markup")
LIMITS = {
    "min_samples": 20, "min_samples_per_batch": 1, "min_classes": 2,
    "min_class_fraction": 0.5, "max_class_fraction": 0.5,
    "max_missing_labels": 0.2, "max_label_drift": 0.3, "max_aspect_ratio": 2.0,
    "max_markup_fraction": 0.1,
}  # fmt: skip


@pytest.fixture
def manifest(samples):
    table = samples("a", ["cat", "dog"] * 10)
    return table.assign(split=["train", "train", "val", "val", "heldout"] * 4)


def examination(manifest, *, classes=("cat", "dog"), min_image_size=16, severity="error", facts=IMAGE, **limits):
    named = {name: ExpectationLimit(limit=limit, severity=severity) for name, limit in (LIMITS | limits).items()}
    return make_examination(
        manifest,
        ExpectationOptions(drift_significance=0.01, expectations=ExpectationLimits(**named)),
        batches=list(dict.fromkeys(manifest["batch"])),
        targets={"label": Classes(tuple(classes))},
        facts=facts,
        min_image_size=min_image_size,
    )


def broken(manifest, **changes):
    """Return the unmet expectations: (expectation, column)."""
    found = check_expectations(examination(manifest, **changes))
    assert json.dumps(found)
    return [(each["expectation"], each["column"]) for each in found if not each["success"]]


def test_sound_manifest_meets_every_expectation(manifest):
    assert broken(manifest) == []


def test_too_few_samples_are_reported(manifest):
    assert broken(manifest, min_samples=21) == [("expect_table_row_count_to_be_between", "")]


def test_too_few_samples_of_a_batch_are_reported(manifest, samples):
    table = pd.concat([manifest, samples("b", ["cat", "dog"]).assign(split="train")], ignore_index=True)
    assert broken(table, min_samples_per_batch=3) == [("expect_column_min_to_be_between", "num_samples")]


def test_rare_and_common_class_are_reported(manifest):
    rare = manifest.assign(label=["cat"] + ["dog"] * 19)
    assert broken(rare, min_class_fraction=0.06, max_class_fraction=1.0) == [
        ("expect_column_values_to_be_between", "graftline.class_fraction.label")
    ]
    assert broken(rare, min_class_fraction=0.0, max_class_fraction=0.94) == [
        ("expect_column_values_to_be_between", "graftline.class_fraction.label")
    ]


def test_share_of_a_class_is_of_those_that_have_a_label(manifest):
    few = manifest.assign(label=["cat"] * 4 + ["dog"] * 4 + [None] * 12)
    assert broken(few, max_missing_labels=0.6) == []


def test_missing_labels_above_the_limit_are_reported(manifest):
    few = manifest.assign(label=["cat"] * 7 + ["dog"] * 7 + [None] * 6)
    assert broken(few, max_missing_labels=0.3) == []
    assert broken(few, max_missing_labels=0.29) == [("expect_column_values_to_not_be_null", "label")]


def test_class_that_is_not_in_use_is_reported(manifest):
    assert ("expect_column_distinct_values_to_be_in_set", "label") in broken(manifest, classes=["cat"])


def test_class_in_use_without_samples_is_no_fault(manifest):
    assert broken(manifest, classes=["cat", "dog", "gone"]) == []


def test_sample_listed_twice_is_reported(manifest):
    twice = pd.concat([manifest, manifest[:2]], ignore_index=True)
    assert ("expect_column_values_to_be_unique", "sample_id") in broken(twice)


def test_empty_split_is_reported(manifest):
    assert broken(manifest.assign(split="train")) == [("expect_column_distinct_values_to_equal_set", "split")]


def test_long_picture_is_reported(manifest):
    table = manifest.assign(width=40)
    assert broken(table) == [("expect_column_values_to_be_between", "graftline.aspect_ratio")]


@pytest.fixture
def texts(manifest):
    return manifest.drop(columns=[*IMAGE]).assign(characters=10, words=2, has_markup=[True, False] * 10)


def test_texts_are_expected_to_have_no_sides(texts):
    assert broken(texts, facts=TEXT, max_markup_fraction=0.5) == []


def test_batch_with_remains_of_html_is_reported(texts):
    found = check_expectations(examination(texts, facts=TEXT, max_markup_fraction=0.49))
    [unmet] = [result for result in found if not result["success"]]
    assert unmet["sentence"].startswith(
        "texts have remains of HTML, such as <b> or &lt;: 50.0% of batch a, expected at most 49.0% "
        "(validate.expectations.max_markup_fraction): "
    )


def test_batch_whose_labels_drift_is_reported(manifest, samples):
    table = pd.concat([manifest, samples("b", ["cat"] * 20).assign(split="train")], ignore_index=True)
    assert broken(table, min_class_fraction=0.0, max_class_fraction=1.0) == [
        ("expect_column_values_to_be_between", "significant_distance")
    ]


def test_severity_is_that_of_the_limit(manifest):
    for severity in ("error", "warning"):
        found = check_expectations(examination(manifest, min_samples=21, severity=severity))
        assert [each["severity"] for each in found if not each["success"]] == [severity]


def test_pages_show_each_expectation_and_run_nothing_of_a_name(manifest, tmp_path):
    evil = manifest.assign(label=["<script>alert(1)</script>", "dog"] * 10)
    write_data_docs(examination(evil, classes=["<script>alert(1)</script>", "dog"], min_samples=21), tmp_path / "docs")
    assert (tmp_path / "docs/index.html").is_file()
    [page] = (tmp_path / "docs/validations/samples").rglob("*.html")
    shown = page.read_text("utf-8")
    assert "sample_id" in shown
    assert re.search(r"Failed|failed", shown)
    assert "<script>alert(1)</script>" not in shown


@pytest.mark.parametrize(
    ("changes", "limits", "words"),
    [
        ({}, {"min_samples": 21}, "20 samples can be used, expected at least 21 "),
        (
            {"label": "cat"},
            {"max_class_fraction": 1.0},
            "label has 1 class ('cat') in a, expected at least 2 ",
        ),
        (
            {},
            {"min_class_fraction": 0.6},
            "of the labels of label, 50.0% are 'cat', 50.0% are 'dog', expected at least 60",
        ),
        (
            {},
            {"max_class_fraction": 0.4},
            "of the labels of label, 50.0% are 'cat', 50.0% are 'dog', expected at most 40",
        ),
        (
            {"label": ["cat", "dog"] * 5 + [None] * 10},
            {},
            "50.0% of the samples have no label of label (50.0% in a), expected at most 20.0% ",
        ),
        (
            {"width": 40},
            {},
            "20 images of a are longer than 2 times their width, such as a/cat/0000.png with 40 x 16 px",
        ),
        ({"split": "train"}, {}, "no sample is in val, heldout, expected some in each split"),
    ],
)
def test_sentence_says_what_was_seen_and_what_was_expected(manifest, changes, limits, words):
    found = check_expectations(examination(manifest.assign(**changes), **limits))
    [unmet] = [result for result in found if not result["success"]]
    assert unmet["sentence"].startswith(words)
    assert unmet["name"] == "splits" or f"(validate.expectations.{unmet['name']}): " in unmet["sentence"]


def test_sentence_names_the_batches(manifest, samples):
    more = pd.concat([manifest, samples("b", ["cat"] * 15).assign(split="train")], ignore_index=True)
    limits = {"min_class_fraction": 0.0, "max_class_fraction": 1.0, "min_samples_per_batch": 16}
    found = {each["name"]: each["sentence"] for each in check_expectations(examination(more, **limits))}
    assert found["min_samples_per_batch"].startswith(
        "of the samples that can be used, batch b has 15, expected at least 16"
    )
    assert "batch b by 0.50 in label, expected at most 0.3 " in found["max_label_drift"]


def test_pool_is_expected_to_be_nothing(manifest, samples):
    pool = samples("b", ["cat"] * 50).assign(split="pool", label=None, width=4000)
    assert broken(pd.concat([manifest, pool], ignore_index=True)) == []


def test_long_manifest_is_examined_in_parts_with_the_same_results(manifest, monkeypatch):
    twice = manifest["sample_id"].mask(manifest.index == 1, manifest["sample_id"][0])
    no_hash = manifest["sample_id"].mask(manifest.index == 5, "not a hash")
    for sample_ids in (manifest["sample_id"], twice, no_hash):
        examined = examination(manifest.assign(sample_id=sample_ids), min_samples=25, min_image_size=32)
        monkeypatch.undo()
        whole = check_expectations(examined)
        monkeypatch.setattr("tasks.data.admission.expectations.ROWS_AT_ONCE", 5)
        assert check_expectations(examined) == whole


FRESH = """
import json, sys, warnings

warnings.simplefilter("ignore")
import pandas as pd
from tasks.data.admission.expectations import check_expectations, write_data_docs
from tests.tasks.data.admission.test_expectations import examination

table = examination(pd.read_parquet(sys.argv[1]))
found = check_expectations(table)
assert not {"altair", "botocore", "sqlalchemy"} & sys.modules.keys()
write_data_docs(table, sys.argv[2])
from great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as with_chart
assert with_chart.alt.Chart
print(json.dumps(found))
"""


def test_a_fresh_process_examines_and_draws_without_the_extras_of_great_expectations(manifest, tmp_path):
    """The fixture has imported all of them here, as another program may."""
    manifest.to_parquet(tmp_path / "manifest.parquet")
    done = run(sys.executable, "-c", FRESH, tmp_path / "manifest.parquet", tmp_path / "docs")
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(json.dumps(check_expectations(examination(manifest))))
    assert (tmp_path / "docs/index.html").is_file()
