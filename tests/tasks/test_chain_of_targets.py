"""Four targets of four kinds from one table of digits: scan to report, in one model."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.models.bundle import load_bundle
from tasks.predict import predict
from tasks.prediction.answers import Answerer
from tasks.stage.params import load_params
from tasks.watch import watch
from tests.kit.chain import ROOT, Chain, logged

LOOPS = {0, 6, 8, 9}
NUM = 480
KINDS = {
    "label": "classes",
    "value": {"kind": "number", "unit": "points", "loss": "huber", "level": 0.9},
    "traits": {"kind": "several", "columns": ["even", "loop"]},
    "stroke": {"kind": "ordinal", "steps": ["thin", "medium", "bold"]},
}


def write_digits(folder):
    """Write pictures of digits and labels.csv. Some labels are missing, and three are bad."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.mkdir(parents=True)
    pixels, numbers = digits.images[:NUM], digits.target[:NUM].tolist()
    ink = pixels.mean(axis=(1, 2))
    low, high = np.quantile(ink, [1 / 3, 2 / 3])
    rows = []
    for place, (picture, number) in enumerate(zip(pixels, numbers, strict=True)):
        name = f"{place:03d}.png"
        Image.fromarray((picture * 15.9).astype(np.uint8)).resize((16, 16)).save(folder / name)
        stroke = "thin" if ink[place] < low else "bold" if ink[place] >= high else "medium"
        rows.append(
            {
                "path": name,
                "label": f"digit {number}",
                "value": "" if place % 7 == 0 else str(10 * number),
                "even": "yes" if number % 2 == 0 else "no",
                "loop": int(number in LOOPS),
                "stroke": "" if place % 5 == 0 else stroke,
            }
        )
    rows[1]["value"], rows[2]["stroke"], rows[3]["even"] = "many", "huge", "perhaps"
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)


@pytest.fixture(scope="module")
def chain(tmp_path_factory, great_expectations):
    params = load_params(ROOT / "params.yaml")
    made = Chain(
        tmp_path_factory.mktemp("targets"),
        validate_=replace(params.validate_, targets=KINDS, min_samples_per_class=5),
        backbone=replace(params.backbone, features=["stage2", "conv5"], power=0.5, resolutions=[24]),
        train_head=replace(params.train_head, l2_strengths=[0.002, 0.02]),
        finetune=replace(params.finetune, epochs=2, num_views=1),
        evaluate=replace(params.evaluate, num_resamples=50),
    )
    write_digits(made.data / "raw/first")
    with logged() as lines:
        made.do(
            "scan",
            "validate",
            "backbone",
            "embed",
            "audit",
            "train_head",
            "finetune",
            "adapt",
            "evaluate",
            "regression",
            "report",
        )
    made.said = "\n".join(lines)
    return made


def test_bad_labels_are_set_aside_and_their_samples_learn_the_rest(chain):
    labels = pd.read_csv(chain.data / "validated/labels.csv", dtype=str)
    assert dict(zip(labels["target"], labels["label"], strict=True)) == {
        "value": "many", "stroke": "huge", "traits": '{"even": "perhaps", "loop": "0"}'
    }  # fmt: skip
    manifest = pd.read_parquet(chain.data / "validated/manifest/first.parquet")
    assert len(manifest) == NUM
    assert manifest["label"].notna().all()
    assert not (manifest["split"] == "pool").any()


def test_every_target_is_learned(chain):
    metrics = chain.json("evaluation/metrics.json")
    assert metrics["label"]["candidate"]["accuracy"] > 0.8
    assert metrics["value"]["candidate"]["error"] < 0.6 * metrics["value"]["constant"]["error"]
    assert metrics["traits"]["candidate"]["macro_f1"] > 0.85
    assert metrics["stroke"]["candidate"]["quadratic_kappa"] > 0.4
    assert chain.json("regression/verdict.json")["verdict"] == "accepted", chain.said


def test_answers_of_the_bundle_are_those_that_were_judged(chain):
    model, _ = load_bundle(chain.data / "candidate")
    predictions = pd.read_parquet(chain.data / "evaluation/predictions.parquet")
    rows = predictions[predictions["target"] == "value"].reset_index(drop=True)
    answerer = Answerer(model)
    transform = answerer.transform
    from tasks.images.decode import decode_sample, read

    prepared = [
        transform.prepare(decode_sample(read(chain.data / "raw/first" / path), shorter_side=transform.shorter_side))
        for path in rows["path"]
    ]
    answers = answerer.answer(prepared)["value"]
    assert answers[:, 0].tolist() == rows["candidate_value"].tolist()
    assert answers[:, 1].tolist() == rows["candidate_low"].tolist()


def test_predict_says_every_kind(chain, tmp_path):
    out = tmp_path / "answers.json"
    predict(chain.data / "candidate", [chain.data / "raw/first/007.png"], out=out)
    by_target = {row["target"]: row for row in json.loads(out.read_text("utf-8"))}
    assert set(by_target) == set(KINDS)
    assert by_target["value"]["low"] < by_target["value"]["value"] < by_target["value"]["high"]
    assert by_target["stroke"]["label"] in ("thin", "medium", "bold")
    assert set(json.loads(by_target["traits"]["label"])) <= {"even", "loop"}


def test_every_kind_has_a_head_on_several_depths_and_the_page_says_how_much_they_count(chain):
    shares = chain.json("head/head.json")["share_of_all_depths"]
    assert shares
    page = " ".join((chain.folder / "report.html").read_text("utf-8").split())
    assert page.count("one on features of all depths of the network counts") == len(shares)


def test_page_has_a_section_for_each_target(chain):
    page = (chain.folder / "report.html").read_text("utf-8")
    for name in KINDS:
        assert name in page
    assert "points" in page


def test_log_says_each_targets_own_measure(chain):
    assert "points" in chain.said
    assert "stroke" in chain.said


def test_watch_finds_no_drift_in_the_held_out_samples_and_one_in_dark_pictures(chain, tmp_path):
    raw, bundle = chain.data / "raw/first", chain.data / "candidate"
    heldout = pd.read_parquet(chain.data / "evaluation/predictions.parquet").drop_duplicates("sample_id")
    dark = tmp_path / "dark"
    dark.mkdir()
    for name in heldout["path"]:
        Image.open(raw / name).point(lambda value: value // 3).save(dark / f"{name}.png")
    usual, changed = tmp_path / "usual.parquet", tmp_path / "changed.parquet"
    predict(bundle, [raw / name for name in heldout["path"]], out=usual, has_embeddings=True)
    predict(bundle, [dark], out=changed, has_embeddings=True)
    labels = tmp_path / "labels.csv"
    truths = pd.read_csv(raw / "labels.csv", dtype=str).merge(heldout[["path", "sample_id"]], on="path")
    truths[["sample_id", "label", "value"]].to_csv(labels, index=False)
    project = {name: chain.shared[name] for name in ("manifests", "batches", "embeddings", "raw", "store")}
    found = watch(
        [usual, changed], bundle=bundle, evaluation=chain.data / "evaluation", out=tmp_path / "watch",
        window=len(heldout), labels=[labels], **project,
    )  # fmt: skip
    as_usual, drifted = found["windows"]
    assert not as_usual["is_drifted"]
    assert drifted["is_drifted"]
    tests = {(one["target"], one["test"]) for one in drifted["tests"]}
    assert tests == {
        ("label", "shares"), ("label", "confidence"), ("stroke", "shares"), ("stroke", "confidence"),
        ("traits", "shares"), ("value", "values"), (None, "domain"), (None, "unlike"),
    }  # fmt: skip
    measured = chain.json("evaluation/metrics.json")["label"]["candidate"]["accuracy"]
    assert as_usual["accuracy"]["label"]["accuracy"] == pytest.approx(measured)
    assert found["reference"]["accuracy"]["label"] == pytest.approx(measured)
    assert "label" not in drifted["accuracy"]  # nobody labelled the dark pictures
