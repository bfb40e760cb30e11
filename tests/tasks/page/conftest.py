"""A small made-up project with the outputs of all stages before `report`, and the page that is drawn from it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.data.health.leaks import COLUMNS, LEAKS
from tasks.data.health.suspects import COLUMNS as COLUMNS_OF_SUSPECTS
from tasks.data.health.suspects import HEALTH, SUSPECTS
from tasks.data.manifest.tables import write_table, write_text_table
from tasks.data.samples.samples import sample_id
from tasks.data.samples.text_cells import read_text
from tasks.data.vectors.tensors import Tensor, write_tensors
from tasks.machine.files import read_json, write_json
from tasks.metrics import projection
from tasks.page.options import PageOptions
from tasks.report import run
from tests.kit.kinds import MODELS, answers, facts, measures

Write = Callable[..., "Project"]


@dataclass(frozen=True, kw_only=True)
class Project:
    """The folder of a project, and its held-out samples."""

    folder: Path
    samples: pd.DataFrame

    def draw(self, **changed: Any) -> Path:
        params = {"title": "Graftline", "max_quarantined_rows": 100, "max_pictures": 40, "picture_size": 48,
                  "max_examples": 8, "max_points": 1000, "max_twins": 8, "show_text": False,
                  "mask_digits": True}  # fmt: skip
        folders = ("validated", "audit", "training", "evaluation", "regression", "head", "raw", "adaptation", "health")
        out = self.folder / "report" / "index.html"
        run(
            **{name: self.folder / name for name in folders},
            batches=self.folder / "batches.yaml",
            out=out,
            report=PageOptions(**params | changed),
            modality="text" if self.samples["path"].str.endswith(".txt").all() else "images",
        )
        return out


@pytest.fixture
def project(tmp_path, picture) -> Write:
    """Return a function that writes a project of samples numbered from 0.

    Half of the samples are in batch a and half in b; their labels take turns. The candidate is wrong on the samples in
    `wrong`, and the model in use, if any, on those in `was_wrong`; a wrong answer is the next class. The two models are
    compared on the first `num_shared` samples, or on all. The samples are images, or `texts`. Of each pair of numbers
    in `leaks` the first left training as a near-duplicate of the second.

    `domains` are facts by name, as `tests.kit.domain_facts` makes them; `unlike` are domain, side, number of a sample
    and logit; `judged` are the measures of held-out samples by domain.
    """

    def write(
        *,
        names=("cat", "dog"),
        num_samples=12,
        wrong=(1, 6),
        was_wrong=None,
        verdict="accepted",
        quarantine=(),
        validation=None,
        audit=None,
        reason="the candidate is the head alone",
        spread=1.0,
        slices=None,
        num_decisions=1,
        num_shared=None,
        texts=None,
        leaks=(),
        domains=None,
        unlike=(),
        judged=None,
    ):
        numbers = np.arange(num_samples)
        labels = np.array(names)[numbers % len(names)]
        table = pd.DataFrame({"batch": np.where(numbers < num_samples // 2, "a", "b"), "label": labels})
        ending = "png" if texts is None else "txt"
        table["path"] = [f"{label}/{number}.{ending}" for number, label in enumerate(labels)]
        table["sample_id"] = [
            put(tmp_path, row.batch, row.path, picture(row.Index))
            if texts is None
            else put_text(
                tmp_path, row.batch, row.path, texts[row.Index % len(texts)] + " again" * (row.Index // len(texts))
            )
            for row in table.itertuples()
        ]
        write_data(tmp_path, table, quarantine, validation or {}, audit or {})
        write_targets(tmp_path, {"label": sorted(names)})
        write_leaks(tmp_path, table, leaks)
        write_adaptation(tmp_path, table, domains or {}, unlike)
        mistakes = {"candidate": wrong, "head": wrong} | ({} if was_wrong is None else {"baseline": was_wrong})
        predictions = table[["sample_id", "batch", "path"]].assign(
            target="label", label=labels, is_leaked=False, is_shared=num_shared is None or numbers < num_shared
        )
        for model, samples in mistakes.items():
            is_wrong = np.isin(numbers, list(samples))
            predictions[model] = np.where(is_wrong, np.array(names)[(numbers + 1) % len(names)], labels)
            predictions[f"{model}_confidence"] = 0.75
            predictions[f"{model}_label_probability"] = np.where(is_wrong, 0.2, 0.75)
        write_results(tmp_path, predictions, verdict=verdict, slices=slices, reason=reason, num_decisions=num_decisions)
        if judged:
            path = tmp_path / "evaluation" / "metrics.json"
            metrics = read_json(path)
            write_json(path, metrics | {"label": metrics["label"] | {"domains": judged}})
        features = (spread * np.random.default_rng(0).normal(size=(num_samples, 8))).astype(np.float16)
        places = Tensor(shape=(num_samples, 2), dtype=np.uint16, pieces=[projection.project(features)])
        write_tensors(tmp_path / "evaluation" / "places.safetensors", {"places": places}, metadata={})
        return Project(folder=tmp_path, samples=table)

    return write


@pytest.fixture
def kinds(project) -> Write:
    """Return a function that writes a project with targets of several kinds, by their names.

    A target is a kind, or the facts of one. Where `models` lacks `baseline`, no model is in use.
    """

    def write(*, models=MODELS, num_samples=40, sharing=None, labels=(), validation=None, **kinds):
        written = project(
            num_samples=num_samples, validation=validation, was_wrong=[] if "baseline" in models else None
        )
        known = {name: facts(kind) if isinstance(kind, str) else kind for name, kind in kinds.items()}
        write_targets(written.folder, known, **({"sharing": sharing} if sharing else {}))
        samples = written.samples[["sample_id", "batch", "path"]]
        rows = {name: answers(samples, name, own, models=models) for name, own in known.items()}
        evaluation = written.folder / "evaluation"
        table = pd.concat(rows.values(), ignore_index=True)
        flags = [name for name in table if name.endswith("_is_right")]
        table.astype(dict.fromkeys(flags, "boolean")).to_parquet(evaluation / "predictions.parquet")
        write_json(
            evaluation / "metrics.json", {name: measures(rows[name], known[name], models=models) for name in known}
        )
        bins = pd.read_csv(evaluation / "reliability.csv")
        by_class = [bins.assign(target=name) for name, own in known.items() if isinstance(own, list)]
        pd.concat([bins.head(0), *by_class]).to_csv(evaluation / "reliability.csv", index=False)
        slices = pd.read_csv(evaluation / "slices.csv")
        errors = {"candidate_error": 0.5, "baseline_error": 0.75 if "baseline" in models else None}
        own_slices = [
            slices.assign(target=name, **({} if isinstance(own, list) else errors)) for name, own in known.items()
        ]
        pd.concat(own_slices).to_csv(evaluation / "slices.csv", index=False)
        path = written.folder / "training" / "finetuning.json"
        if len(known) > 1:
            tuned = read_json(path)
            reason = tuned.pop("verdict")["reason"]
            verdicts = {
                name: {"is_finetuned": name == "angle", "reason": reason.replace("candidate", f"model for {name}")}
                | choice(name != "angle")
                for name in known
            }
            write_json(path, tuned | {"verdicts": verdicts, "trunks": dict.fromkeys(known, "head") | {"angle": "own"}})
            write_target_curves(written.folder / "training" / "curves.csv", known)
            subject = read_json(evaluation / "subject.json")
            subject["lineage"]["shares"] = dict.fromkeys(known, 0.0) | {"angle": subject["lineage"].pop("share")}
            write_json(evaluation / "subject.json", subject)
        if labels:
            columns = ["batch", "path", "sample_id", "target", "label", "reason", "detail"]
            write_text_table(written.folder / "validated" / "labels.csv", pd.DataFrame(list(labels), columns=columns))
        return written

    return write


@pytest.fixture
def page(project):
    """Return a function that writes a project and returns its page as text; it takes the arguments of both."""

    def read(**arguments):
        changed = {
            key: arguments.pop(key)
            for key in ("title", "max_quarantined_rows", "show_text", "mask_digits", "max_twins")
            if key in arguments
        }
        return project(**arguments).draw(**changed).read_text("utf-8")

    return read


@pytest.fixture
def quarantined(tmp_path, picture):
    """Return a function that puts an image into batch a and returns its row of the ledger."""

    def put_aside(path, reason, detail="detail of the ledger"):
        return ["a", path, put(tmp_path, "a", path, picture(99)), reason, detail]

    return put_aside


def put(folder, batch, path, image):
    """Put an image into a batch and return its sample_id."""
    file = folder / "raw" / batch / path
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, "PNG")
    return sample_id(file.read_bytes())


def put_text(folder, batch, path, text):
    """Put a text into a batch and return its sample_id."""
    file = folder / "raw" / batch / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return sample_id(read_text(file))


def write_leaks(folder, table, leaks):
    """Write the leaks: pairs of samples by their numbers, the first ones the most alike."""
    names = ["batch", "path", "sample_id"]
    one, other = (table[names].iloc[[pair[side] for pair in leaks]].reset_index(drop=True) for side in (0, 1))
    rows = one.join(other.add_prefix("twin_"))
    rows = rows.assign(split="train", cosine=0.9876, hash_distance=range(4, 4 + len(leaks)))
    write_text_table(folder / "audit" / LEAKS, rows[COLUMNS])


def write_adaptation(folder, table, domains, unlike):
    rows = [
        [domain, side, *table.loc[number, ["batch", "path", "sample_id"]], logit]
        for domain, side, number, logit in unlike
    ]
    (folder / "adaptation").mkdir(exist_ok=True)
    write_json(folder / "adaptation" / "adaptation.json", {"domains": domains})
    columns = ["domain", "side", "batch", "path", "sample_id", "logit"]
    write_text_table(folder / "adaptation" / "unlike.csv", pd.DataFrame(rows, columns=columns))


def write_data(folder, table, quarantine, validation, audit):
    (folder / "batches.yaml").write_text("batches: [a, b]\n", "utf-8")
    for name in ("validated/manifest", "audit", "health"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    ledger = pd.DataFrame(list(quarantine), columns=["batch", "path", "sample_id", "reason", "detail"])
    write_text_table(folder / "validated" / "quarantine.csv", ledger)
    counts = {}
    for batch, rows in table.assign(split="heldout").groupby("batch"):
        write_table(folder / "validated" / "manifest" / f"{batch}.parquet", rows)
        aside = ledger.loc[ledger["batch"] == batch, "reason"].value_counts()
        reasons = {f"quarantined.{reason}": int(count) for reason, count in aside.items()}
        counts[batch] = {"in": len(rows) + sum(reasons.values()), "used": len(rows), "pool": 0} | reasons
    empty = {name: {} for name in ("class_changes", "lost_classes", "probation", "without_samples")}
    empty |= {"expectations": [], "remarks": []}
    write_json(folder / "validated" / "validation.json", {"batches": counts} | empty | validation)
    health = {"num_leaks": 0, "num_leaked": 0, "limits": {"separates": True, "expected_recall": 0.99}}
    health |= {"marks": None, "warnings": []}
    leaks = {batch: {"train": 0, "val": 0, "heldout": 0} for batch in counts}
    write_json(folder / "audit" / "audit.json", health | {"batches": leaks} | audit)
    write_text_table(folder / "health" / SUSPECTS, pd.DataFrame(columns=COLUMNS_OF_SUSPECTS))
    write_json(
        folder / "health" / HEALTH, {"num_suspects": {}, "confusions": {}, "weak_slices": {}, "batches": {}}
    )  # fmt: skip


def write_targets(folder, facts, **head):
    """Write the facts of targets by name, and what else `head.json` has."""
    write_json(folder / "validated" / "classes.json", facts)
    (folder / "head").mkdir(exist_ok=True)
    write_json(folder / "head" / "head.json", {"classes": facts} | head)


def write_target_curves(path, known):
    curves = pd.read_csv(path)
    for name, own in known.items():
        measure, values = ("accuracy", [0.5, 0.75]) if isinstance(own, list) else ("error", [9.0, 7.0])
        curves[f"train_{measure}.{name}"], curves[f"val_{measure}.{name}"] = [None, 0.7], values
    curves.to_csv(path, index=False)


def write_results(folder, predictions, *, verdict, slices, reason, num_decisions):
    for name in ("training", "evaluation", "regression"):
        (folder / name).mkdir(exist_ok=True)
    predictions.to_parquet(folder / "evaluation" / "predictions.parquet")
    is_right = {
        model: predictions[model] == predictions["label"]
        for model in ("candidate", "head", "baseline")
        if model in predictions
    }
    baseline = "b" * 64 if "baseline" in is_right else None
    metrics = {model: numbers(float(right.mean())) for model, right in is_right.items()}
    if baseline:
        is_shared = predictions["is_shared"]
        now, was = is_right["candidate"][is_shared], is_right["baseline"][is_shared]
        metrics["flips"] = {
            "negative": int((was & ~now).sum()),
            "positive": int((now & ~was).sum()),
            "num_samples": len(now),
            "p_value": 1.0,
        }
        if len(now) and not is_shared.all():
            metrics["shared"] = {"candidate": numbers(float(now.mean())), "baseline": numbers(float(was.mean()))}
    write_json(folder / "evaluation" / "metrics.json", {"label": metrics})
    if slices is None:
        slices = [
            ["label", "batch", batch, 6, 0.8, 0.6, 0.95, 6, 0.9 if baseline else "", 1, 0] for batch in ("a", "b")
        ]
    columns = ["target", "column", "value", "num_samples", "candidate_accuracy", "candidate_low", "candidate_high",
               "num_shared", "baseline_accuracy", "negative_flips", "positive_flips"]  # fmt: skip
    pd.DataFrame(slices, columns=columns).to_csv(folder / "evaluation" / "slices.csv", index=False)
    bins = {"confidence": [0.75], "accuracy": [0.8], "count": [len(predictions)], "target": ["label"]}
    pd.DataFrame(bins).to_csv(folder / "evaluation" / "reliability.csv", index=False)
    lineage = {"epoch": 2, "share": 0.75, "data": "d" * 64, "backbone": "b" * 64, "versions": {"torch": "2"}}
    subject = {"stage": "finetuned", "candidate": "c" * 64, "lineage": lineage, "candidate_bytes": 45_000_000}
    write_json(folder / "evaluation" / "subject.json", subject | ({"baseline_bytes": 44_000_000} if baseline else {}))
    passed = verdict == "accepted"
    rule = {"name": f"label recall of {predictions['label'][0]}", "value": 0.5, "limit": 0.7, "bound": "at least 0.7",
            "passed": passed, "smallest_detectable": 0.125}  # fmt: skip
    judged = {"verdict": verdict, "rules": [rule], "num_tests": 4, "num_failed": 0 if passed else 1,
              "num_heldout": len(predictions), "baseline": baseline, "candidate": "c" * 64,
              "num_decisions": num_decisions, "is_worn": num_decisions > 20}  # fmt: skip
    write_json(folder / "regression" / "verdict.json", judged)
    losses = {"train_loss": [None, 0.6], "val_loss": [1.0, 0.5], "val_calibrated_loss": [0.9, 0.4]}
    scores = losses | {"train_accuracy": [None, 0.7], "val_accuracy": [0.5, 0.8]}
    curves = pd.DataFrame({"epoch": [0, 1], "is_kept": [0, 1]} | scores)
    curves.to_csv(folder / "training" / "curves.csv", index=False)
    tuned = {"ending": "every epoch was run", "epoch_kept": 1, "epochs": 1, "loss_gap": 0.25, "num_all_blocks": 9,
             "num_blocks": 2, "verdict": {"reason": reason} | choice("head alone" in reason)}  # fmt: skip
    write_json(folder / "training" / "finetuning.json", tuned)


def choice(is_head):
    """Return the part of a verdict that says what was chosen among what."""
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    candidates = [{"share": share, "loss": 0.9 - share / 2, "accuracy": 0.5 + share / 4} for share in shares]
    return {"candidates": candidates, "p_value": 0.01 if is_head else 0.8, "share": 0.0 if is_head else 0.75}


def numbers(accuracy):
    """Return the metrics of a model as `evaluate` writes them."""
    measured = {"accuracy": accuracy, "macro_f1": 0.88, "log_loss": 0.3, "calibration_error": 0.05, "brier": 0.12}
    intervals = {key: [value - 0.02, value + 0.02] for key, value in measured.items()}
    return measured | {"intervals": intervals, "accuracy_without_leaks": 0.89, "num_leaked": 1, "recall": {}}
