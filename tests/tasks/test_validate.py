import io
import json

import pandas as pd
import pytest
import yaml

from tasks.data.manifest import write_table
from tasks.data.quarantine import LEDGER_COLUMNS
from tasks.params import ScanParams, ValidateParams
from tasks.validate import admit, run

pytestmark = pytest.mark.usefixtures("great_expectations")

SCAN = ScanParams(min_image_size=8, max_image_pixels=10**6)


def params(**changes):
    settings = {
        "split_salt": "graftline",
        "val_fraction": 0.25,
        "heldout_fraction": 0.25,
        "max_quarantined_fraction": 0.5,
        "min_samples": 10,
        "min_class_fraction": 0.0,
    }
    return ValidateParams(**settings | changes)


def no_defects():
    return pd.DataFrame(columns=LEDGER_COLUMNS)


def defects(batch, *paths):
    return pd.DataFrame(
        {
            "batch": batch,
            "path": list(paths),
            "sample_id": "",
            "reason": "empty_file",
            "detail": "the file has no bytes",
        }
    )


@pytest.fixture
def land(tmp_path):
    """Writes what scan gives for a batch and lists the batch."""

    def write(batch, table, found=None):
        folder = tmp_path / "scanned" / batch
        folder.mkdir(parents=True)
        write_table(folder / "samples.parquet", table.drop(columns="batch"))
        (no_defects() if found is None else found).drop(columns="batch").to_csv(folder / "defects.csv", index=False)
        listed = sorted(each.name for each in (tmp_path / "scanned").iterdir())
        (tmp_path / "batches.yaml").write_text(yaml.safe_dump({"batches": listed}), "utf-8")

    return write


@pytest.fixture
def validate(tmp_path):
    """Runs validate; returns the folder it wrote."""

    def go(**changes):
        out = tmp_path / "validated"
        run(
            scanned=tmp_path / "scanned",
            batches=tmp_path / "batches.yaml",
            out=out,
            validate=params(**changes),
            scan=SCAN,
        )
        return out

    return go


def test_split_of_a_sample_stays_when_others_come(samples):
    old = samples("a", ["cat", "dog"] * 30)
    before, _ = admit(old, no_defects(), params())
    new = pd.concat([old, samples("b", ["cat", "dog", "eel"] * 30)], ignore_index=True)
    after, _ = admit(new, no_defects(), params())
    assert len(after) == 150
    assert before.set_index("sample_id")["split"].equals(after[after["batch"] == "a"].set_index("sample_id")["split"])


def test_class_with_one_picture_is_quarantined_with_its_counts(samples):
    manifest, ledger = admit(samples("a", ["cat"] * 40 + ["dog"] * 40 + ["eel"]), no_defects(), params())
    assert sorted(manifest["label"].unique()) == ["cat", "dog"]
    assert ledger["reason"].tolist() == ["class_too_small"]
    counts = "|".join(["1 train, 0 val, 0 heldout", "0 train, 1 val, 0 heldout", "0 train, 0 val, 1 heldout"])
    assert ledger["detail"].str.fullmatch(rf"class 'eel' has ({counts}) samples, expected one of each: .*").all()


def test_defect_and_duplicate_are_in_one_ledger_sorted_by_place(samples):
    table = samples("b", ["cat", "cat"] * 20, ids=["x", "x", *map(str, range(38))])
    _, ledger = admit(table, defects("a", "cat/torn.png"), params())
    assert ledger[["batch", "path", "reason"]].to_numpy().tolist() == [
        ["a", "cat/torn.png", "empty_file"],
        ["b", "cat/0001.png", "exact_duplicate"],
    ]


def test_every_file_of_a_batch_is_used_or_quarantined(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30), defects("a", "cat/torn.png", "stray.png"))
    land("b", pd.concat([samples("b", ["cat", "dog"] * 20), samples("a", ["cat"]).assign(path="cat/copy.png")]))
    out = validate()
    report = json.loads((out / "validation.json").read_text("utf-8"))
    assert report["batches"] == {
        "a": {"used": 60, "quarantined.empty_file": 2},
        "b": {"used": 40, "quarantined.exact_duplicate": 1},
    }
    assert [len(pd.read_parquet(out / "manifest" / f"{batch}.parquet")) for batch in "ab"] == [60, 40]
    assert len(pd.read_csv(out / "quarantine.csv")) == 3


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
    land("a", samples("a", ["cat", "dog"] * 30), defects("a", *(f"cat/torn{number}.png" for number in range(15))))
    with pytest.raises(ValueError, match=r"15 samples \(20\.0%\) are quarantined, expected at most 10\.0%"):
        validate(max_quarantined_fraction=0.1)
    assert len(pd.read_csv(tmp_path / "validated" / "quarantine.csv")) == 15


def test_budget_that_is_just_met_lets_the_run_go_on(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30), defects("a", *(f"cat/torn{number}.png" for number in range(15))))
    assert (validate(max_quarantined_fraction=0.2) / "manifest" / "a.parquet").is_file()


def test_batch_of_defects_alone_says_that_no_picture_is_usable(land, validate, samples, tmp_path):
    land("a", samples("a", ["cat"])[:0], defects("a", "cat/1.png", "cat/2.png"))
    with pytest.raises(ValueError, match=r"no usable images at all \(2 quarantined\): see .*quarantine\.csv"):
        validate()
    assert len(pd.read_csv(tmp_path / "validated" / "quarantine.csv")) == 2


def test_data_of_one_class_is_refused_by_the_expectation_it_breaks(land, validate, samples):
    land("a", samples("a", ["cat"] * 40))
    with pytest.raises(ValueError, match="does not meet expect_column_unique_value_count_to_be_between label"):
        validate()


def test_too_few_samples_are_refused_with_the_number_found(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30))
    with pytest.raises(ValueError, match=r"expect_table_row_count_to_be_between .*'min_value': 61.* observed 60"):
        validate(min_samples=61)


def test_listed_batch_that_was_not_scanned_is_named(land, validate, samples, tmp_path):
    land("a", samples("a", ["cat", "dog"] * 30))
    (tmp_path / "batches.yaml").write_text("batches: [a, b]", "utf-8")
    with pytest.raises(ValueError, match=r"b/samples\.parquet is missing, though batch b is listed"):
        validate()


def test_file_name_that_looks_like_a_missing_value_stays_what_it_is(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30), defects("a", "NA", "cat/1,2\n.png"))
    ledger = io.StringIO((validate() / "quarantine.csv").read_text("utf-8"))
    assert pd.read_csv(ledger, keep_default_na=False)["path"].tolist() == ["NA", "cat/1,2\n.png"]


def test_same_input_gives_the_same_bytes(land, validate, samples):
    land("a", samples("a", ["cat", "dog"] * 30), defects("a", "cat/torn.png"))

    def contents():
        return {each.name: each.read_bytes() for each in sorted(validate().rglob("*")) if each.is_file()}

    assert contents() == contents()
