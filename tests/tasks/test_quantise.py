"""A backbone is written in 8 bits, accepted by the accuracy of heads on val, and computes the vectors of a batch."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import tasks.quantise
from tasks.data.vectors.embeddings import pair_cosines
from tasks.machine.files import remove
from tasks.predict import predict
from tasks.quantise import drawn
from tasks.stage.params import load_params
from tasks.targets.classes import Classes
from tests.kit.chain import ROOT, Chain, logged
from tests.tasks.test_chain_of_targets import write_digits


@pytest.fixture(scope="module")
def chain(tmp_path_factory, great_expectations):
    params = load_params(ROOT / "params.yaml")
    made = Chain(
        tmp_path_factory.mktemp("quantise"),
        validate_=replace(params.validate_, targets={"label": "classes"}, min_samples_per_class=5),
        finetune=replace(params.finetune, epochs=1, num_views=1, unfreeze=1),
        evaluate=replace(params.evaluate, num_resamples=50),
    )
    write_digits(made.data / "raw/first")
    made.do("scan", "validate", "backbone", "embed")
    return made


@pytest.fixture(scope="module")
def proposal(chain):
    """Return the last line of the log of `tasks.quantise`."""
    with logged() as lines:
        chain.do("quantise")
    return lines[-1]


@pytest.fixture
def with_int8(chain, proposal):
    place = re.search(r"quantised to (\S+)$", proposal)[1]
    before = chain.params
    chain.params = replace(before, embed=replace(before.embed, precision="int8", quantised=place))
    yield chain
    chain.params = before


def test_int8_is_proposed_with_what_to_set_and_embeds_a_batch(chain, proposal, with_int8):
    assert re.match(r"int8 is (proposed|exact enough, but not faster here): it takes \d+ % of the time of ", proposal)
    path = chain.data / "embeddings/first.safetensors"
    before = load_file(path)["vectors"]
    with_int8.do("embed")
    after = load_file(path)["vectors"]
    assert after.shape == before.shape
    assert not np.array_equal(after, before)
    assert pair_cosines(after, before).min() > 0.9


def test_candidate_on_vectors_of_int8_is_judged_by_the_gate_as_it_will_answer(with_int8, tmp_path):
    chain = with_int8
    chain.do("embed", "audit", "train_head", "finetune", "adapt", "evaluate", "regression")
    assert chain.json("regression/verdict.json")["verdict"] == "accepted"
    metrics = chain.json("evaluation/metrics.json")["label"]
    assert metrics["candidate"]["accuracy"] > 0.8
    judged = pd.read_parquet(chain.data / "evaluation/predictions.parquet").set_index("path")
    file = chain.paths["quantise"]["out"].rename(tmp_path / "int8.onnx")  # to answer takes the bundle alone
    predict(
        chain.data / "candidate", [chain.data / "raw/first" / name for name in judged.index], out=tmp_path / "a.csv"
    )
    file.rename(chain.paths["quantise"]["out"])
    answers = pd.read_csv(tmp_path / "a.csv")
    assert answers["label"].tolist() == judged["candidate"].tolist()
    assert answers["probability"].to_numpy() == pytest.approx(judged["candidate_confidence"].to_numpy(), abs=1e-4)


def test_int8_that_loses_accuracy_is_refused_and_leaves_no_file(chain, monkeypatch, tmp_path):
    monkeypatch.setattr(tasks.quantise, "MOST_LOSS", -1.0)
    before = chain.paths["quantise"]
    chain.paths["quantise"] = {"out": tmp_path / "int8.onnx"}
    with pytest.raises(ValueError, match=r"^int8 is refused: target label: accuracy on val \d"):
        chain.do("quantise")
    chain.paths["quantise"] = before
    assert list(tmp_path.iterdir()) == []


def test_rare_class_and_every_target_are_among_the_samples_that_are_drawn(monkeypatch):
    monkeypatch.setattr(tasks.quantise, "MOST_SAMPLES", {"train": 20, "val": 20})
    manifest = pd.DataFrame({"sample_id": [f"{number:064x}" for number in range(600)], "batch": "first", "path": ""})
    manifest["split"] = np.where(manifest.index < 400, "train", np.where(manifest.index < 500, "val", "heldout"))
    manifest["kind"] = np.where(manifest.index % 100 < 3, "rare", "common")
    manifest["age"] = np.where(manifest.index % 50 < 5, "old", None)
    targets = {"kind": Classes(("common", "rare")), "age": Classes(("old",))}
    rows = drawn(manifest, targets, seed=0)
    assert rows["split"].unique().tolist() == ["train", "val"]
    for _, own in rows.groupby("split"):
        assert 20 >= len(own) >= 10
        assert (own["kind"] == "rare").sum() >= 2
        assert (own["age"] == "old").sum() >= 10
    manifest.loc[manifest["split"] == "val", "age"] = None
    with pytest.raises(
        ValueError, match="val has no label of the target age, whose accuracy measures int8: label some"
    ):
        drawn(manifest, targets, seed=0)


def test_file_of_another_backbone_or_with_other_bytes_is_refused(with_int8):
    chain, before = with_int8, with_int8.params
    chain.params = replace(before, backbone=replace(before.backbone, features="penultimate"))
    own = chain.data / "backbone"
    kept = own.rename(own.with_name("kept"))
    chain.do("backbone")
    with pytest.raises(ValueError, match="was made of another backbone, or of other settings of it"):
        chain.do("embed")
    remove(own)
    kept.rename(own)
    chain.params = before
    place, _, digest = before.embed.quantised.rpartition(":")
    other = digest.replace(digest[0], "1" if digest[0] == "0" else "0")
    chain.params = replace(before, embed=replace(before.embed, quantised=f"{place}:{other}"))
    with pytest.raises(ValueError, match="has SHA-256"):
        chain.do("embed")
    chain.params = replace(before, embed=replace(before.embed, quantised=None))
    with pytest.raises(ValueError, match=r"embed\.quantised names no file"):
        chain.do("embed")
