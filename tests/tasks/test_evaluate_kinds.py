"""Evaluate and the gate on a project with a target of each kind: real pictures, a real backbone, heads fitted here."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.data.health.leaks import COLUMNS, LEAKED, LEAKS
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import sample_id
from tasks.data.vectors.embeddings import write_embeddings
from tasks.evaluate import run as evaluate
from tasks.machine.files import read_json, sha256, write_json
from tasks.metrics.slices import COLUMNS as SLICE_COLUMNS
from tasks.metrics.slices import ERROR_COLUMNS
from tasks.models.bundle import DESCRIPTION, WEIGHTS, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.prediction.answers import Answerer
from tasks.stage.params import load_params
from tasks.targets.classes import Classes
from tasks.targets.head import Head, save_heads
from tasks.targets.number import Number
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import Several, write
from tasks.training.finetuning.grafting import graft
from tests.kit.chain import ROOT
from tests.kit.judging import judge

SIZE = 32  # px
NUM = 120  # pictures
SPLITS = ("train", "heldout", "heldout", "val")
TARGETS = {
    "label": Classes(("bright", "dark")),
    "percent": Number(measure="points", tolerance=8.0),
    "traits": Several(("left", "top")),
    "light": Ordinal(("low", "middle", "high")),
}


def draw(number):
    """A grey picture with noise, brighter on the left or at the top or nowhere; and what is true of it."""
    generator = np.random.default_rng(number)
    level = int(generator.integers(20, 180))
    traits = [name for name in ("left", "top") if generator.random() < 0.5]
    pixels = np.full((SIZE, SIZE, 3), level) + generator.integers(0, 15, (SIZE, SIZE, 3))
    pixels[:, : SIZE // 2] += 60 * ("left" in traits)
    pixels[: SIZE // 2] += 60 * ("top" in traits)
    labels = {
        "label": "bright" if level > 100 else "dark",
        "percent": repr(level / 2.0),
        "traits": write(traits),
        "light": ("low", "middle", "high")[min((level - 20) // 54, 2)],
    }
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), labels


def outputs(target, truths):
    """The outputs (n, num_outputs) that give the right answers."""
    if isinstance(target, Number):
        return (truths[:, None] - target.centre) / target.scale
    if isinstance(target, Several):
        return 6 * truths - 3
    if isinstance(target, Ordinal):
        return 6.0 * (truths[:, None] > np.arange(target.num_outputs)) - 3
    return 6.0 * (truths[:, None] == np.arange(target.num_outputs)) - 3


class Project:
    """What evaluate reads, in `folder`; the labels of every tenth picture are missing, another target each time."""

    def __init__(self, folder):
        self.folder = folder
        torch.manual_seed(0)
        self.backbone = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=SIZE)
        raw = folder / "raw/first"
        raw.mkdir(parents=True)
        rows, pictures = [], []
        for number in range(NUM):
            picture, labels = draw(number)
            path = raw / f"{number:03d}.png"
            picture.save(path)
            if number % 10 == 0:
                labels[list(TARGETS)[number // 10 % 4]] = None
            rows.append(
                {"batch": "first", "path": path.name, "sample_id": sample_id(path.read_bytes()), **labels,
                 "split": SPLITS[number % 4], "width": SIZE, "height": SIZE, "group": None, "day": number % 2}
            )  # fmt: skip
            pictures.append(self.backbone.transform.prepare(picture))
        self.rows = pd.DataFrame(rows)
        for name in ("manifest", "audit", "embeddings"):
            (folder / name).mkdir()
        write_table(folder / "manifest/first.parquet", self.rows)
        for name in (LEAKED, LEAKS):
            pd.DataFrame([], columns=COLUMNS).to_csv(folder / "audit" / name, index=False)
        write_json(folder / "split.json", {"salt": "a", "val_fraction": 0.15, "heldout_fraction": 0.2})
        (folder / "batches.yaml").write_text("batches: [first]\n", "utf-8")
        write_json(folder / "baseline.json", {})
        answerer = Answerer(Classifier(self.backbone, TARGETS), device="cpu")
        vectors = answerer.vectors(self.backbone.transform.stack(pictures))[0].numpy()
        self.vectors = vectors
        write_embeddings(
            folder / "embeddings/first.safetensors", [vectors], shape=vectors.shape,
            recipe=self.backbone.fingerprint(),
        )  # fmt: skip

    def head(self, folder, targets, *, noise=()):
        """Write the head of each target, fitted by ridge regression on train and calibrated on val."""
        generator = np.random.default_rng(0)
        heads, known = {}, {}
        for name, target in targets.items():
            truths = target.encode(self.rows[name])
            is_there, split = target.has_label(truths), self.rows["split"].to_numpy()
            train, val = (np.flatnonzero(is_there & (split == side)) for side in ("train", "val"))
            known[name] = target.standardised(truths[train])
            x, y = self.vectors[train].astype(float), outputs(known[name], truths[train])
            centre, mean = x.mean(axis=0), y.mean(axis=0)
            gram = (x - centre) @ (x - centre).T
            strength = 1e-3 * np.trace(gram) / len(train)
            weight = ((x - centre).T @ np.linalg.solve(gram + strength * np.eye(len(train)), y - mean)).T
            if name in noise:
                weight += 2 * np.abs(weight).mean() * generator.standard_normal(weight.shape)
            layer = weight.astype(np.float32), (mean - weight @ centre).astype(np.float32)
            head = Head(layers=(layer,))
            known[name], temperature = known[name].calibrate(head.logits(self.vectors[val]), truths[val])
            heads[name] = replace(head, temperature=temperature)
        folder.mkdir(parents=True)
        save_heads(folder, heads, targets=known, facts={})

    def bundle(self, name, targets=TARGETS, *, noise=(), head=None):
        """Write a bundle, and its head beside it. `head` is the folder of another head, which it takes."""
        if head is None:
            self.head(self.folder / f"head of {name}", targets, noise=noise)
        folder = self.folder / name
        folder.mkdir()
        model = graft(self.backbone, head or self.folder / f"head of {name}", targets=targets)
        save_bundle(folder, model, lineage={"stage": "head"})
        return folder

    def evaluated(self, out, *, candidate="candidate", baseline=None, **changes):
        """Run evaluate and return the folder that it wrote."""
        files = {"model_sha256": WEIGHTS, "description_sha256": DESCRIPTION} if baseline else {}
        record = {key: sha256(self.folder / str(baseline) / file) for key, file in files.items()}
        write_json(self.folder / "baseline.json", record)
        paths = {name: self.folder / name for name in ("audit", "raw", "embeddings", "store")}
        params = replace(load_params(ROOT / "params.yaml").evaluate, num_resamples=50, **changes)
        evaluate(
            **paths, manifests=self.folder / "manifest", split=self.folder / "split.json",
            batches=self.folder / "batches.yaml", head=self.folder / "head of candidate",
            candidate=self.folder / candidate, baseline_record=self.folder / "baseline.json",
            baseline=self.folder / str(baseline), out=self.folder / out, evaluate=params, modality="images", seed=0,
        )  # fmt: skip
        return self.folder / out


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("kinds"))
    made.bundle("candidate")
    made.bundle("worse", noise=("percent", "traits"))
    return made


@pytest.fixture(scope="module")
def first(project):
    """The folder of a first evaluation, without a model in use."""
    return project.evaluated("first", slices=["class", "day"], perturbations=["shifted"])


@pytest.fixture(scope="module")
def judged(project, shell_in):
    """Judge an evaluation by the shipped rules; returns the status and the rules by name."""

    def run(evaluation, **changes):
        done, verdict = judge(shell_in, evaluation, candidate=project.folder / "candidate", **changes)
        return done, {rule["name"]: rule for rule in verdict["rules"]}, verdict

    return run


def test_each_kind_has_its_measures_with_their_intervals(first):
    metrics = read_json(first / "metrics.json")
    assert {name: metrics[name].get("kind") for name in TARGETS} == {
        "label": None, "percent": "number", "traits": "several", "light": "ordinal",
    }  # fmt: skip
    assert metrics["percent"]["unit"] == "points"
    for name, measure in {"percent": "r2", "traits": "mean_average_precision", "light": "quadratic_kappa"}.items():
        for model in ("candidate", "head"):
            measured = metrics[name][model]
            low, high = measured["intervals"][measure]
            assert low <= measured[measure] <= high
            assert measured["error"] < metrics[name]["constant"]["error"]
    assert set(metrics["label"]["candidate"]["recall"]) == {"bright", "dark"}
    assert metrics["percent"]["candidate"]["tolerance"] == 8.0
    assert 0.5 < metrics["percent"]["candidate"]["unchanged"]["shifted"] <= 1


def test_each_row_has_the_answers_and_errors_of_its_kind(first):
    table = pd.read_parquet(first / "predictions.parquet")
    by_target = dict(iter(table.groupby("target")))
    number = by_target["percent"]
    assert number["label_value"].tolist() == number["label"].map(float).tolist()
    assert number["candidate_error"].to_numpy() == pytest.approx(
        np.abs(number["candidate_value"] - number["label_value"])
    )
    assert (number["candidate_low"] <= number["candidate_high"]).all()
    assert len(by_target["traits"]["candidate_probabilities"].iloc[0]) == 2
    assert by_target["light"]["candidate"].isin(TARGETS["light"].names).all()
    assert by_target["label"]["candidate_error"].isna().all()
    assert by_target["traits"]["candidate_confidence"].isna().all()
    assert sum(map(len, by_target.values())) == 4 * 60 - 6  # every tenth sample lacks a label


def test_slices_are_labels_steps_and_quarters_of_a_number(first):
    slices = pd.read_csv(first / "slices.csv", dtype={"value": str})
    assert slices.columns.tolist() == [*SLICE_COLUMNS, *ERROR_COLUMNS]
    of_class = slices[slices["column"] == "class"].groupby("target")["value"].agg(list)
    assert of_class["traits"] == ["left", "top"]
    assert of_class["light"] == ["low", "middle", "high"]
    assert len(of_class["percent"]) == 4
    assert all(value.endswith(" points") for value in of_class["percent"])
    assert slices[slices["target"] == "label"]["candidate_error"].isna().all()


def test_confusion_and_reliability_are_of_the_kinds_that_have_them(first):
    assert set(pd.read_csv(first / "confusion.csv")["target"]) == {"label", "light"}
    assert set(pd.read_csv(first / "reliability.csv")["target"]) == {"label"}


def test_first_candidate_must_beat_the_constant_answer_of_each_target(first, judged):
    done, rules, _ = judged(first)
    assert done.status == 0, done.stderr
    answer = read_json(first / "metrics.json")["percent"]["constant"]["answer"]
    beats = rules[f"percent p-value that the candidate is no better than always answering {answer}"]
    assert (beats["passed"], beats["unit"]) == (True, "points")
    assert 0 < beats["smallest_detectable"] < 20
    assert not any("unit" in rule for name, rule in rules.items() if name.startswith("label "))


def test_ceilings_and_floors_are_of_the_kinds_that_have_them(first, judged):
    limits = {"max_error": {"percent": 0.001}, "min_interval_coverage": 0.2, "min_accuracy": 0.2}
    done, rules, _ = judged(first, **limits)
    assert done.status == 1
    broken = [name for name, rule in rules.items() if not rule["passed"]]
    assert broken == ["percent mean error beside a ceiling of 0.001"]
    names = ("percent share within the interval", "label accuracy", "light accuracy")
    assert {f"{name} beside a floor of 0.2" for name in names} <= set(rules)
    assert not {"percent accuracy", "traits accuracy"} & set(rules)


def test_ceiling_of_an_unknown_target_is_refused_by_name(first, judged):
    done, _, _ = judged(first, max_error={"label": 0.1})
    assert "regression.max_error names 'label', expected a target of the kind several, ordinal or number" in done.stderr


def test_margin_of_an_unknown_target_is_refused_by_name(project, judged):
    evaluation = project.evaluated("margin", candidate="worse", baseline="candidate", slices=["day"])
    done, _, _ = judged(evaluation, error_margin={"label": 0.1})
    assert "regression.error_margin names 'label', expected a target of the kind several, ordinal or" in done.stderr


def test_slices_of_errors_have_a_margin_in_the_proportion_of_that_of_accuracy(project, judged):
    """Here 2.5 times as much; no answer to `light` differs, so that nothing is known of what it could lose."""
    evaluation = project.evaluated("margins", candidate="worse", baseline="candidate", slices=["batch"])
    _, rules, verdict = judged(evaluation, error_margin={"percent": 100, "light": 0.5}, min_slice_samples=20)
    limits = {name: rule["limit"] for name, rule in rules.items() if name.startswith("percent loss on ")}
    assert limits.pop("percent loss on all samples that is not ruled out") == 100
    assert set(limits.values()) == {250}
    assert "light batch first could lose an unknown amount: too few answers differ to tell" in verdict["unseen"]


def test_golden_number_is_right_within_its_tolerance(first, judged):
    table = pd.read_parquet(first / "predictions.parquet").set_index("target")
    best = table.loc["percent"].sort_values("candidate_error").iloc[0]
    near, far = float(best["candidate_value"]) + 7.9, float(best["candidate_value"]) + 8.1
    for label, is_right in ((near, True), (far, False)):
        _, rules, _ = judged(first, golden=[[best["sample_id"], "percent", label]])
        assert rules[f"percent golden sample {best['sample_id'][:12]} is {label}"]["passed"] is is_right


def test_equal_models_pass_and_a_worse_one_is_rejected_by_the_targets_that_it_harmed(project, judged):
    done, rules, _ = judged(project.evaluated("same", baseline="candidate"))
    assert done.status == 0, done.stderr
    assert rules["percent p-value that the candidate is no worse on all samples"]["value"] == 1.0
    done, rules, _ = judged(project.evaluated("harmed", candidate="worse", baseline="candidate"))
    assert done.status == 1
    assert not rules["percent p-value that the candidate is no worse on all samples"]["passed"]
    assert rules["label p-value that the candidate is no worse on all samples"]["passed"]


def test_negative_flips_are_counted_by_what_is_right_in_each_kind(project, judged):
    evaluation = project.evaluated("flips", candidate="worse", baseline="candidate")
    table = pd.read_parquet(evaluation / "predictions.parquet")
    number = table[table["target"] == "percent"]
    flips = read_json(evaluation / "metrics.json")["percent"]["flips"]
    was_right, is_right = number["baseline_error"] <= 8.0, number["candidate_error"] <= 8.0
    assert flips["negative"] == (was_right & ~is_right).sum() > 0
    _, rules, _ = judged(evaluation, max_negative_flips=0.5)
    assert rules["percent share of negative flips"]["value"] == pytest.approx(flips["negative"] / len(number))


def test_target_in_another_unit_is_new_and_has_no_column_of_the_model_in_use(project, judged):
    if not (project.folder / "metres").exists():
        project.bundle("metres", TARGETS | {"percent": Number(measure="metres", tolerance=8.0)})
    evaluation = project.evaluated("units", baseline="metres")
    metrics = read_json(evaluation / "metrics.json")
    assert ("baseline" in metrics["percent"], "baseline" in metrics["traits"]) == (False, True)
    table = pd.read_parquet(evaluation / "predictions.parquet")
    assert table.loc[table["target"] == "percent", ["baseline", "baseline_error"]].isna().all(axis=None)
    write_json(evaluation / "metrics.json", {"percent": metrics.pop("percent")} | metrics)
    own = "def test_own(heldout, baseline): assert baseline[heldout.target == 'traits']['error'].notna().all()\n"
    done, rules, _ = judged(evaluation, own=own)
    assert done.status == 0, done.stderr
    assert "percent p-value that the candidate is no worse than its head alone" in rules
    assert "traits p-value that the candidate is no worse than its head alone" not in rules


def test_number_that_the_model_in_use_has_and_the_candidate_lacks_is_a_loss(project, judged):
    others = {name: target for name, target in TARGETS.items() if name != "percent"}
    project.bundle("fewer", others)
    done, rules, _ = judged(project.evaluated("lost", candidate="fewer", baseline="candidate"))
    assert done.status == 1
    assert not rules["percent is a target of the model in use, and the candidate lacks it"]["passed"]


def test_samples_with_a_label_that_the_model_in_use_does_not_know_are_not_compared(project, judged):
    project.bundle("left alone", TARGETS | {"traits": Several(("left",))}, head=one_label_head(project))
    metrics = read_json(project.evaluated("labels", baseline="left alone") / "metrics.json")
    heldout = project.rows[(project.rows["split"] == "heldout") & project.rows["traits"].notna()]
    is_known = ~heldout["traits"].str.contains("top")
    assert metrics["traits"]["flips"]["num_samples"] == is_known.sum() < len(heldout)


def one_label_head(project):
    """A head that knows one of the labels: the others of its rows are left out."""
    rows, project.rows = project.rows, project.rows.copy()
    without_top = {'["left","top"]': '["left"]', '["top"]': "[]"}
    project.rows["traits"] = project.rows["traits"].replace(without_top)
    folder = project.folder / "head of one label"
    project.head(folder, TARGETS | {"traits": Several(("left",))})
    project.rows = rows
    return folder


def test_bundle_in_a_fresh_process_agrees_with_evaluate_in_every_kind(project, first, shell_in, tmp_path):
    asked = "smoke", "--bundle", project.folder / "candidate", "--raw", project.folder / "raw", "--predictions"
    done = shell_in(tmp_path, *asked, first / "predictions.parquet")
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["num_compared"] > 4 * 25
    table = pd.read_parquet(first / "predictions.parquet")
    for column in ("candidate_value", "candidate_high"):
        table.assign(**{column: table[column] + 1.0}).to_parquet(tmp_path / "moved.parquet")
        assert "expected at most 0.001" in shell_in(tmp_path, *asked, tmp_path / "moved.parquet").error


def test_churn_of_each_kind_is_that_of_its_right_answers(project, first, shell_in, tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "tables").mkdir()
    for number in range(3):
        shutil.copy(first / "predictions.parquet", tmp_path / f"tables/{number}.parquet")
    table = pd.read_parquet(first / "predictions.parquet")
    is_right = (table["target"] == "percent") & table["candidate_is_right"]
    flipped = table.assign(candidate_is_right=table["candidate_is_right"] & ~is_right)
    flipped.to_parquet(tmp_path / "tables/0.parquet")
    done = shell_in(tmp_path, "churn", "--predictions", "tables", "--out", "churn.json")
    assert done.status == 0, done.stderr
    churn = read_json(tmp_path / "churn.json")
    assert churn["percent"]["highest"] == pytest.approx(is_right.sum() / (table["target"] == "percent").sum())
    assert {name: churn[name]["highest"] for name in ("label", "traits", "light")} == dict.fromkeys(
        ("label", "traits", "light"), 0.0
    )


@pytest.fixture(scope="module")
def with_forms(project):
    pytest.importorskip("onnxruntime", reason="needs the extra [export]: pip install -e '.[export]'")
    return project.evaluated("forms", forms=["onnx", "int8"])


def test_exported_file_answers_as_the_candidate_does(with_forms):
    metrics = read_json(with_forms / "metrics.json")
    for name in TARGETS:
        exported, candidate = metrics[name]["forms"]["onnx"], metrics[name]["candidate"]
        assert exported["changed"] == 0
        assert exported["flips"]["negative"] == exported["flips"]["positive"] == 0
        assert exported["change"] == pytest.approx(0, abs=1e-3)
        key = "accuracy" if name == "label" else "error"
        assert exported[key] == pytest.approx(candidate[key], rel=1e-3)
    low, high = metrics["label"]["forms"]["onnx"]["interval"]
    assert low < 0 < high


def test_file_that_was_judged_is_kept(project, with_forms):
    import onnxruntime

    heldout = project.rows[project.rows["split"] == "heldout"]
    pixels = [project.backbone.transform.prepare(Image.open(project.folder / "raw/first" / path)).numpy()
              for path in heldout["path"]]  # fmt: skip
    is_there = heldout["label"].notna().to_numpy()
    truths = TARGETS["label"].encode(heldout["label"])[is_there]
    metrics, subject = (read_json(with_forms / f"{name}.json") for name in ("metrics", "subject"))
    for form in ("onnx", "int8"):
        path = with_forms / "forms" / f"{form}.onnx"
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        [answers] = session.run(["label"], {"pixels": np.stack(pixels)})
        assert (answers.argmax(axis=1)[is_there] == truths).mean() == metrics["label"]["forms"][form]["accuracy"]
        assert subject["forms"][form]["bytes"] == path.stat().st_size
        assert subject["forms"][form]["milliseconds"] > 0
        assert str(ROOT).encode() not in path.read_bytes()
    assert subject["forms"]["int8"]["bytes"] < subject["forms"]["onnx"]["bytes"] / 2


def test_without_forms_nothing_is_exported(first):
    assert not (first / "forms").exists()
    assert "forms" not in read_json(first / "subject.json")
    assert all("forms" not in measured for measured in read_json(first / "metrics.json").values())


def test_missing_extra_is_named_before_anything_is_read(project, monkeypatch):
    monkeypatch.setattr("tasks.machine.extras.find_spec", lambda name: None)
    monkeypatch.setattr("tasks.evaluate.read_manifest", lambda *_: pytest.fail("the manifest was read"))
    with pytest.raises(ValueError, match=r"export needs onnx and onnxruntime and onnxscript, which are not installed"):
        project.evaluated("nowhere", forms=["onnx"])


def test_gate_limits_the_answers_that_a_form_gets_wrong(first, with_forms, judged):
    _, rules, _ = judged(with_forms, max_form_flips=0.0)
    assert rules["label share of negative flips from the candidate to onnx"]["passed"]
    assert "percent share of negative flips from the candidate to int8" in rules
    assert not any("flips from" in name for name in judged(with_forms)[1])
    _, _, verdict = judged(first, max_form_flips=0.0)
    assert any("evaluate.forms is empty" in problem for problem in verdict["problems"])
