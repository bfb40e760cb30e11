"""Samples of the pool are chosen and exported, and labels come back by a table or an export of Label Studio."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from tasks.data.admission.corrections import read_corrections
from tasks.data.manifest.tables import read_text_table, write_text_table
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.stage.params import load_params
from tests.kit.chain import ROOT, Chain
from tests.tasks.test_chain_of_targets import write_digits

NUM_LABELLED, COUNT = 300, 12


def unlabel(folder):
    """Take the labels of the later samples, which then wait in the pool."""
    table = pd.read_csv(folder / "labels.csv", dtype=str)
    labelled = table.index < NUM_LABELLED
    table[["label", "value", "even", "loop", "stroke"]] = table[["label", "value", "even", "loop", "stroke"]].where(
        pd.Series(labelled), other=np.nan
    )
    table.to_csv(folder / "labels.csv", index=False)


@pytest.fixture(scope="module")
def chain(tmp_path_factory, great_expectations):
    params = load_params(ROOT / "params.yaml")
    kinds = {
        "label": "classes",
        "value": {"kind": "number"},
        "traits": {"kind": "several", "columns": ["even", "loop"]},
    }
    made = Chain(
        tmp_path_factory.mktemp("label"),
        validate_=replace(params.validate_, targets=kinds, min_samples_per_class=5),
        label=replace(params.label, count=COUNT),
    )
    write_digits(made.data / "raw/first")
    unlabel(made.data / "raw/first")
    made.do("scan", "validate", "backbone", "embed")
    backbone = load_bundle(made.data / "backbone")[0].backbone
    (made.data / "candidate").mkdir()
    names = [f"digit {number}" for number in range(10)]
    save_bundle(made.data / "candidate", Classifier(backbone, {"label": names}), lineage={})
    made.do("label")
    return made


@pytest.fixture
def fresh(chain):
    """The chain without corrections."""
    yield chain
    if (chain.data / "corrections.csv").exists():
        (chain.data / "corrections.csv").unlink()
        chain.do("validate")


def table_of(chain):
    return read_text_table(chain.data / "label/labels.csv")


def test_half_of_the_samples_are_chosen_for_doubt_and_half_for_coverage_and_all_wait_in_the_pool(chain):
    table = table_of(chain)
    manifest = pd.read_parquet(chain.data / "validated/manifest/first.parquet").set_index("sample_id")
    assert table["why"].value_counts().tolist() == [COUNT // 2, COUNT // 2]
    assert set(manifest.loc[table["sample_id"], "split"]) == {"pool"}
    assert table["sample_id"].is_unique
    for file, path in zip(table["file"], table["path"], strict=True):
        assert (chain.data / "label" / file).read_bytes() == (chain.data / "raw/first" / path).read_bytes()


def test_tasks_and_configuration_are_those_that_label_studio_imports(chain):
    """The fields are those of https://labelstud.io/guide/tasks.html and .../predictions.html."""
    tasks = json.loads((chain.data / "label/label_studio.json").read_text("utf-8"))
    view = ElementTree.parse(chain.data / "label/label_studio.xml").getroot()  # noqa: S314  it is ours
    controls = {one.get("name"): one for one in view if one.get("toName")}
    shown = view.find("Image")
    assert set(controls) == {"label", "value", "traits"}
    assert {one.get("toName") for one in controls.values()} == {shown.get("name")}
    assert controls["traits"].get("choice") == "multiple"
    assert len(tasks) == COUNT
    for task in tasks:
        assert set(task) <= {"data", "predictions", "annotations", "id", "meta"}
        assert task["data"][shown.get("value").removeprefix("$")].startswith("/data/local-files/?d=label/samples/")
        [prediction] = task["predictions"]
        for result in prediction["result"]:
            control = controls[result["from_name"]]
            assert (result["to_name"], result["type"]) == (shown.get("name"), "choices")
            assert set(result["value"]["choices"]) <= {one.get("value") for one in control}


def test_labels_of_the_table_come_back_once_with_who_gave_them(fresh):
    table = table_of(fresh)
    table.loc[0, ["label", "value", "traits"]] = ["digit 3", "30.0", "even|loop"]
    table.loc[1, "label"] = "digit 4"
    write_text_table(fresh.data / "filled.csv", table)
    fresh.paths["correct"] |= {"labels": fresh.data / "filled.csv"}
    fresh.do("correct")
    fresh.do("correct")
    rows = [(row.sample_id, row.target, row.label, row.who) for row in read_corrections(fresh.data / "corrections.csv")]
    first, second = table["sample_id"][:2]
    assert rows == [
        (first, "label", "digit 3", "Ann"), (first, "traits", '["even","loop"]', "Ann"),
        (first, "value", "30.0", "Ann"), (second, "label", "digit 4", "Ann"),
    ]  # fmt: skip
    fresh.do("validate")
    manifest = pd.read_parquet(fresh.data / "validated/manifest/first.parquet").set_index("sample_id")
    assert manifest.loc[first, ["label", "value"]].tolist() == ["digit 3", "30.0"]
    assert manifest.loc[first, "split"] != "pool"


def test_labels_give_the_same_vectors_and_what_is_decided_is_not_chosen_again(fresh):
    before = (fresh.data / "embeddings/first.safetensors").read_bytes()
    table = table_of(fresh)
    write_text_table(fresh.data / "filled.csv", table.assign(label="digit 1"))
    fresh.paths["correct"] |= {"labels": fresh.data / "filled.csv"}
    fresh.do("correct", "label")
    assert not {*table["sample_id"]} & {*table_of(fresh)["sample_id"]}
    fresh.do("validate", "embed")
    assert (fresh.data / "embeddings/first.safetensors").read_bytes() == before
    (fresh.data / "corrections.csv").unlink()
    fresh.do("validate", "label")


def test_labels_that_were_not_read_and_files_of_others_are_not_written_over(fresh):
    table = table_of(fresh)
    file = fresh.data / "label/labels.csv"
    write_text_table(file, table.assign(label=["digit 3", *table["label"][1:]]))
    with pytest.raises(
        ValueError, match=r"has labels that were not read, such as label of sample .*: `graftline label"
    ):
        fresh.do("label")
    assert table_of(fresh)["label"][0] == "digit 3"
    fresh.paths["correct"] |= {"labels": file}
    fresh.do("correct", "label")
    assert table["sample_id"][0] not in set(table_of(fresh)["sample_id"])
    (fresh.data / "label/export.json").write_text("[]", "utf-8")
    with pytest.raises(ValueError, match=r"has export\.json, which would be lost"):
        fresh.do("label")
    (fresh.data / "label/export.json").unlink()
    (fresh.data / "corrections.csv").unlink()
    fresh.do("label")


def annotated(chain, *, choices, number=None, completed_by=7, cancelled=False):
    """An export of Label Studio with one annotation of the first task."""
    task = json.loads((chain.data / "label/label_studio.json").read_text("utf-8"))[0]
    result = [{"id": "x", "from_name": "label", "to_name": "sample", "type": "choices", "origin": "manual",
               "value": {"choices": choices}}]  # fmt: skip
    if number is not None:
        result.append({"id": "y", "from_name": "value", "to_name": "sample", "type": "number",
                       "value": {"number": number}})  # fmt: skip
    annotation = {"id": 1, "completed_by": completed_by, "was_cancelled": cancelled, "result": result}
    return task | {"id": 1, "annotations": [annotation], "created_at": "2026-11-01T10:00:00.000000Z"}


def read_back(chain, tasks):
    (chain.data / "export.json").write_text(json.dumps(tasks), "utf-8")
    chain.paths["correct"] |= {"labels": chain.data / "export.json"}
    chain.do("correct")
    return read_corrections(chain.data / "corrections.csv")


def test_annotations_of_label_studio_come_back_with_who_made_them_and_a_skipped_one_does_not(fresh):
    export = [
        annotated(fresh, choices=["digit 2"], number=20, completed_by={"id": 3, "email": "bob@example.org"}),
        annotated(fresh, choices=["digit 9"], cancelled=True),
    ]
    rows = read_back(fresh, export)
    assert [(row.target, row.label, row.who) for row in rows] == [
        ("label", "digit 2", "bob@example.org"), ("value", "20.0", "bob@example.org"),
    ]  # fmt: skip


def test_two_annotators_who_differ_are_both_kept_and_validate_asks(fresh):
    read_back(fresh, [annotated(fresh, choices=["digit 2"]), annotated(fresh, choices=["digit 3"], completed_by=8)])
    fresh.do("validate")
    assert any("differently" in remark for remark in fresh.json("validated/validation.json")["remarks"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda task: task.pop("annotations"), "task 1 has no `data` and `annotations`: .* not as JSON-MIN"),
        (lambda task: task["annotations"][0]["result"][0].update(from_name="lable"), "task 1 labels 'lable', expected"),
        (lambda task: task["annotations"][0]["result"][0].update(value={"choices": ["a", "b"]}), "has 2 choices for"),
        (lambda task: task["annotations"][0]["result"][0].update(value={}), "no choice and no number for label"),
    ],
)
def test_another_export_is_refused_and_nothing_is_appended(fresh, change, message):
    task = annotated(fresh, choices=["digit 2"])
    change(task)
    with pytest.raises(ValueError, match=message):
        read_back(fresh, [annotated(fresh, choices=["digit 1"]), task][::-1])
    assert not (fresh.data / "corrections.csv").exists()


def test_table_with_a_bad_label_is_refused_and_one_of_gone_samples_is_read_without_them(fresh, caplog):
    table = table_of(fresh)
    table.loc[0, "value"] = "many"
    table.loc[1, "label"] = "digit 5"
    write_text_table(fresh.data / "filled.csv", table)
    fresh.paths["correct"] |= {"labels": fresh.data / "filled.csv"}
    with pytest.raises(ValueError, match=rf"sample {table['sample_id'][0][:12]}, value: "):
        fresh.do("correct")
    assert not (fresh.data / "corrections.csv").exists()
    table.loc[0, ["sample_id", "value"]] = ["f" * 64, "3"]
    table.loc[2, "label"] = "dgit 5"
    write_text_table(fresh.data / "filled.csv", table)
    fresh.do("correct")
    assert len(read_corrections(fresh.data / "corrections.csv")) == 2
    assert "1 labels are of samples that no batch has, such as ffffffffffff" in caplog.text
    assert "new classes, which wait until they have enough samples: 'dgit 5' (1)" in caplog.text


def test_table_without_labels_or_with_other_columns_is_refused(fresh):
    fresh.paths["correct"] |= {"labels": fresh.data / "label/labels.csv"}
    with pytest.raises(ValueError, match="has no label: fill in a cell of label, traits, value"):
        fresh.do("correct")
    (fresh.data / "other.csv").write_text("sample_id;label\n", "utf-8")
    fresh.paths["correct"] |= {"labels": fresh.data / "other.csv"}
    with pytest.raises(ValueError, match="separated by semicolons, expected commas"):
        fresh.do("correct")


def test_empty_pool_is_said_in_one_line(fresh):
    manifest = fresh.data / "validated/manifest/first.parquet"
    before = manifest.read_bytes()
    table = pd.read_parquet(manifest)
    table.assign(split=table["split"].replace("pool", "train")).to_parquet(manifest)
    with pytest.raises(ValueError, match=r"^the pool is empty: every sample has a label"):
        fresh.do("label")
    manifest.write_bytes(before)


def test_without_a_model_in_use_all_are_chosen_for_coverage(fresh, caplog):
    fresh.paths["label"] |= {"model": None, "out": fresh.data / "first_label"}
    fresh.do("label")
    assert set(read_text_table(fresh.data / "first_label/labels.csv")["why"]) == {"no labelled sample is near"}
    assert "no model is in use" in caplog.text
    fresh.paths["label"] |= {"model": fresh.data / "candidate", "out": fresh.data / "label"}
