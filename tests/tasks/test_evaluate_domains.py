"""Evaluate and the gate on a model that is adapted to domains: real pictures, a real backbone, heads fitted here."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.data.health.leaks import COLUMNS, LEAKED
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import sample_id
from tasks.data.vectors.embeddings import write_embeddings
from tasks.evaluate import run as evaluate
from tasks.machine.files import read_json, sha256, write_json
from tasks.models.bundle import DESCRIPTION, WEIGHTS, load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.domains import AdaptedHeads
from tasks.models.weights import load_backbone
from tasks.prediction.answers import Answerer
from tasks.smoke import compare
from tasks.stage.params import load_params
from tasks.targets.head import Head, save_heads
from tests.kit.chain import ROOT
from tests.kit.judging import judge

SIZE = 32  # px
TARGETS = {"label": ["bright", "dark"], "tint": ["blue", "red"]}
# of each batch the number of pictures and the splits; the manifest names the domain of the sketches alone
BATCHES = {"photo": (96, ("train", "heldout", "val", "train")), "negative": (96, ("pool", "heldout"))}
NUM_SKETCHES = 12


def draw(number, batch):
    """A bright or dark picture, as a negative or not, with a tint; and what is true of it."""
    generator = np.random.default_rng(number)
    level, tint = int(generator.choice([60, 160])), str(generator.choice(TARGETS["tint"]))
    pixels = np.full((SIZE, SIZE, 3), level) + generator.integers(0, 15, (SIZE, SIZE, 3))
    pixels = 255 - pixels if batch == "negative" else pixels
    pixels[..., 0 if tint == "red" else 2] += 40
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), {
        "label": "bright" if level > 100 else "dark", "tint": tint
    }  # fmt: skip


class Project:
    """What evaluate reads, in `folder`: photographs with labels, and negatives and sketches, most without."""

    def __init__(self, folder):
        self.folder = folder
        torch.manual_seed(0)
        self.backbone = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=SIZE)
        for name in ("manifest", "audit", "embeddings"):
            (folder / name).mkdir()
        answerer, tables, vectors = Answerer(Classifier(self.backbone, TARGETS), device="cpu"), [], []
        for batch, (num, splits) in BATCHES.items():
            (folder / "raw" / batch).mkdir(parents=True)
            rows, pictures = [], []
            for place in range(num):
                picture, labels = draw(1000 * len(tables) + place, batch)
                path = folder / "raw" / batch / f"{place:03d}.png"
                picture.save(path)
                split = splits[place % len(splits)]
                is_sketch = batch == "negative" and split == "pool" and place < 2 * NUM_SKETCHES
                rows.append(
                    {"batch": batch, "path": path.name, "sample_id": sample_id(path.read_bytes()),
                     "domain": "sketch" if is_sketch else None, "split": split, "width": SIZE, "height": SIZE,
                     "group": None, "truth": labels} | (labels if split != "pool" else dict.fromkeys(labels))
                )  # fmt: skip
                pictures.append(self.backbone.transform.prepare(picture))
            tables.append(pd.DataFrame(rows))
            vectors.append(answerer.vectors(self.backbone.transform.stack(pictures))[0].numpy())
            write_table(folder / f"manifest/{batch}.parquet", tables[-1].drop(columns="truth"))
            write_embeddings(
                folder / f"embeddings/{batch}.safetensors", [vectors[-1]], shape=vectors[-1].shape,
                recipe=self.backbone.fingerprint(),
            )  # fmt: skip
        self.rows, self.vectors = pd.concat(tables, ignore_index=True), np.concatenate(vectors)
        pd.DataFrame([], columns=COLUMNS).to_csv(folder / "audit" / LEAKED, index=False)
        write_json(folder / "split.json", {"salt": "a", "val_fraction": 0.15, "heldout_fraction": 0.2})
        (folder / "batches.yaml").write_text(f"batches: [{', '.join(BATCHES)}]\n", "utf-8")
        (folder / "head").mkdir()
        self.layers = {name: self.fitted(name, batch="photo", split="train") for name in TARGETS}
        save_heads(
            folder / "head", {name: Head(layers=(layer,)) for name, layer in self.layers.items()}, targets=TARGETS,
            facts={},
        )  # fmt: skip

    def fitted(self, target, *, batch, split):
        """The layer of a target that ridge regression fits to samples of a batch, whose labels may be hidden ones."""
        chosen = np.flatnonzero((self.rows["batch"] == batch) & (self.rows["split"] == split))
        is_first = np.array([self.rows["truth"][row][target] == TARGETS[target][0] for row in chosen])
        x, y = self.vectors[chosen].astype(float), np.where(is_first[:, None], [2.0, -2.0], [-2.0, 2.0])
        centre, gram = x.mean(axis=0), (x - x.mean(axis=0)) @ (x - x.mean(axis=0)).T
        solved = np.linalg.solve(gram + 1e-3 * np.trace(gram) / len(x) * np.eye(len(x)), y - y.mean(axis=0))
        weight = ((x - centre).T @ solved).T
        return weight.astype(np.float32), (y.mean(axis=0) - weight @ centre).astype(np.float32)

    def bundle(self, name, **layers):
        """Write a bundle whose head of `label` for each of some domains is this layer."""
        teller = np.zeros((1 + len(layers), self.vectors.shape[1]), np.float32), np.zeros(1 + len(layers), np.float32)
        own = {domain: {"label": layer} for domain, layer in sorted(layers.items())}
        model = Classifier(self.backbone, TARGETS, domains=AdaptedHeads.of(own, teller) if own else None)
        model.graft({name: [tuple(map(torch.from_numpy, layer))] for name, layer in self.layers.items()})
        (self.folder / name).mkdir()
        save_bundle(self.folder / name, model, lineage={"stage": "head"})

    def evaluated(self, candidate, *, baseline=None, **changes):
        """Run evaluate, and return what it wrote."""
        record = {}
        if baseline:
            files = {"model_sha256": WEIGHTS, "description_sha256": DESCRIPTION}
            record = {key: sha256(self.folder / baseline / file) for key, file in files.items()}
        write_json(self.folder / "baseline.json", record)
        paths = {name: self.folder / name for name in ("audit", "raw", "embeddings", "store", "head")}
        params = replace(load_params(ROOT / "params.yaml").evaluate, num_resamples=50, **changes)
        out = self.folder / f"{candidate} over {baseline}"
        evaluate(
            **paths, manifests=self.folder / "manifest", split=self.folder / "split.json",
            batches=self.folder / "batches.yaml", candidate=self.folder / candidate,
            baseline_record=self.folder / "baseline.json", baseline=self.folder / str(baseline), out=out,
            evaluate=params, modality="images", seed=0,
        )  # fmt: skip
        table = pd.read_parquet(out / "predictions.parquet")
        return SimpleNamespace(
            folder=out, metrics=read_json(out / "metrics.json"), subject=read_json(out / "subject.json"),
            slices=pd.read_csv(out / "slices.csv", dtype={"value": str}), table=table,
            of_label=table[table["target"] == "label"].reset_index(drop=True),
        )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("domains"))
    fitted = made.fitted("label", batch="negative", split="pool")
    made.bundle("adapted", negative=fitted, sketch=fitted)
    made.bundle("harmed", photo=tuple(-part for part in made.layers["label"]))
    made.bundle("plain")
    made.bundle("sliced")
    return made


@pytest.fixture(scope="module")
def adapted(project):
    """A first evaluation of a candidate that is adapted to negatives and sketches."""
    return project.evaluated("adapted", perturbations=["shifted"])


@pytest.fixture(scope="module")
def plain(project):
    return project.evaluated("plain")


@pytest.fixture(scope="module")
def lost(project):
    """The evaluation of a candidate that is adapted to no domain, where the model in use is."""
    return project.evaluated("plain", baseline="adapted")


@pytest.fixture(scope="module")
def judged(project, shell_in):
    """Judge an evaluation by the shipped rules, one of one's own and limits; returns the run and the verdict."""

    def run(evaluation, **changes):
        return judge(shell_in, evaluation.folder, candidate=project.folder / "adapted", **changes)

    return run


def rule_of(verdict, text):
    [rule] = [rule for rule in verdict["rules"] if text in rule["name"]]
    return rule


def test_samples_of_an_adapted_domain_are_answered_by_its_head_and_the_general_head_stands_beside(adapted):
    table = adapted.of_label
    negatives = table[table["domain"] == "negative"]
    assert len(negatives) == 48
    assert (negatives["candidate"] == negatives["label"]).mean() > 0.9
    assert (negatives["general"] == negatives["label"]).mean() < 0.6
    assert negatives["general_confidence"].between(0.5, 1).all()
    others = adapted.table[(adapted.table["domain"] != "negative") | (adapted.table["target"] != "label")]
    assert others[["general", "general_confidence", "general_label_probability"]].isna().all(axis=None)


def test_domain_of_a_sample_is_its_batch_where_the_manifest_names_none(adapted):
    assert (adapted.table["domain"] == adapted.table["batch"]).all()


def test_target_without_a_head_of_the_domain_keeps_the_general_head(adapted, plain):
    tints = [each.table[each.table["target"] == "tint"].reset_index(drop=True) for each in (adapted, plain)]
    columns = ["candidate", "candidate_confidence"]
    assert tints[0][columns].equals(tints[1][columns])
    assert "domains" not in adapted.metrics["tint"]


def test_measures_of_a_domain_have_its_own_head_beside_the_general_head(adapted):
    assert list(adapted.metrics["label"]["domains"]) == ["negative"]
    measured = adapted.metrics["label"]["domains"]["negative"]
    assert (measured["num_samples"], measured["flips"]["num_samples"]) == (48, 48)
    assert measured["flips"]["positive"] > measured["flips"]["negative"]
    assert measured["flips"]["p_value"] > 0.9
    for model in ("candidate", "general"):
        low, high = measured[model]["intervals"]["accuracy"]
        assert low <= measured[model]["accuracy"] <= high


def test_calibration_is_measured_without_the_samples_of_adapted_domains(adapted, plain):
    table = adapted.of_label
    others = table[table["domain"] != "negative"]
    measured = adapted.metrics["label"]["candidate"]
    assert measured["num_calibrated"] == len(others) == 24
    reliability = pd.read_csv(adapted.folder / "reliability.csv").groupby("target")["count"].sum()
    assert reliability.to_dict() == {"label": 24, "tint": 72}
    gap = abs((others["candidate"] == others["label"]).mean() - others["candidate_confidence"].mean())
    assert gap <= measured["calibration_error"] + 1e-9
    assert measured["calibration_error"] < plain.metrics["label"]["candidate"]["calibration_error"] - 0.1
    low, high = measured["intervals"]["calibration_error"]
    assert low <= measured["calibration_error"] <= high


def test_domain_is_a_slice_without_being_asked_for(adapted):
    of_domain = adapted.slices[adapted.slices["column"] == "domain"]
    assert of_domain[of_domain["target"] == "label"]["value"].tolist() == ["negative", "photo"]


def test_batch_without_a_domain_is_one_where_domains_are_slices(project):
    of_label = project.evaluated("sliced", slices=["domain"]).slices.query("target == 'label'")
    assert of_label[["column", "value"]].values.tolist() == [["domain", "negative"], ["domain", "photo"]]


def test_altered_samples_of_a_domain_are_answered_by_its_head_too(adapted):
    assert adapted.metrics["label"]["candidate"]["unchanged"]["shifted"] > 0.9


def test_model_without_domains_has_no_column_measure_or_slice_of_them(plain):
    assert not [column for column in plain.table if column.startswith("general")]
    assert plain.table["domain"].isna().all()
    assert not {"domains", "num_calibrated"} & {*plain.metrics["label"], *plain.metrics["label"]["candidate"]}
    assert not {"domains_without_samples", "lost_domains"} & set(plain.subject)
    assert "domain" not in set(plain.slices["column"])


def test_answers_of_the_bundle_are_those_that_were_judged(project, adapted):
    answerer = Answerer(load_bundle(project.folder / "adapted")[0], device="cpu")
    worst, num_compared = compare(answerer, adapted.table, raw=project.folder / "raw")
    assert (worst, num_compared) == (pytest.approx(0, abs=1e-6), 64)


def test_candidate_that_a_domain_gains_from_is_accepted_and_a_domain_without_labels_is_told(adapted, judged):
    own = (
        "def test_gain(heldout, candidate, general, rule):\n"
        "    rows = heldout['domain'] == 'negative'\n"
        "    assert general.index.equals(heldout.index) and list(general) == list(candidate)\n"
        "    rule('gain', candidate['is_right'][rows].mean() - general['is_right'][rows].mean(), at_least=0.2)\n"
        "    rule('elsewhere', (candidate == general)[~rows].all(axis=None), at_least=1)\n"
    )
    done, verdict = judged(adapted, own=own)
    assert done.status == 0, done.stderr
    rule = rule_of(verdict, "head of the domain negative")
    assert (rule["passed"], rule["parameter"]) == (True, "significance")
    assert 0 < rule["smallest_detectable"] < 1
    assert verdict["domains_without_samples"] == ["label sketch"]
    assert "adapted domains not judged, because no held-out sample of them has a label: label sketch" in done.stderr


def test_candidate_that_a_domain_is_harmed_by_is_rejected_with_what_a_person_can_do(project, judged):
    done, verdict = judged(project.evaluated("harmed"))
    assert done.status == 1
    rule = rule_of(verdict, "head of the domain photo")
    assert not rule["passed"]
    assert rule["advice"] == "leave photo out of adapt.targets, or try another adapt.method, in params.yaml"
    assert f"{rule['name']}: {rule['advice']}" in done.stderr


def test_model_in_use_answers_by_its_own_heads_of_domains(project, judged):
    evaluation = project.evaluated("adapted", baseline="adapted")
    table = evaluation.of_label
    assert table["baseline"].equals(table["candidate"])
    domain = evaluation.metrics["label"]["domains"]["negative"]
    assert domain["baseline"]["accuracy"] == domain["candidate"]["accuracy"]
    done, verdict = judged(evaluation)
    assert done.status == 0, done.stderr
    assert rule_of(verdict, "label p-value that the candidate is no worse on domain negative")["passed"]
    assert "lost_domains" not in verdict


def test_domain_that_only_the_model_in_use_is_adapted_to_is_told_and_judged_as_a_slice(lost, judged):
    assert lost.subject["lost_domains"] == {"label": ["negative", "sketch"], "tint": []}
    done, verdict = judged(lost)
    assert verdict["lost_domains"] == ["label negative", "label sketch"]
    assert "its general head answers: label negative, label sketch" in done.stderr
    assert done.status == 1
    assert not rule_of(verdict, "label p-value that the candidate is no worse on domain negative")["passed"]


def test_calibration_rule_says_what_it_leaves_out(adapted, judged):
    _, verdict = judged(adapted, max_calibration_error=0.9)
    assert rule_of(verdict, "label calibration error")["name"] == "label calibration error outside adapted domains"
    assert rule_of(verdict, "tint calibration error")["name"] == "tint calibration error"
