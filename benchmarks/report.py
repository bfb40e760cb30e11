"""Measure the cost of a large report page for its reader: its size, and the time until it is shown.

A project of 100,000 held-out samples is made up, with 100 classes and 5 batches. The candidate is right on 92 % of the
samples, and the model in use on 90 %. Features lie in clusters, file names have 12 random digits, and there are images
for the wrong predictions and for some right ones of each class. The verb `report` draws the page as DVC runs it.

- megabytes: the size of the file.
- open_seconds: the time from the start of the navigation to the load event or the first contentful paint, whichever is
  later, as Chromium itself measures them. The page is opened from disk in a window of 1280 x 900 px. It is the median
  of 5, each in a browser of its own. `map` is the time from there until the map is scrolled to and drawn, in
  milliseconds; there is no claim about it.

This needs Chromium: /usr/bin/chromium, or the path in the variable CHROMIUM. Without it the page is made but not
opened. --quick has 10,000 samples and makes no claims.
"""

import hashlib
import io
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.kit.machine import Claim, finish, parse_arguments
from tasks import report
from tasks.data.health.leaks import COLUMNS, LEAKS
from tasks.data.health.suspects import COLUMNS as COLUMNS_OF_SUSPECTS
from tasks.data.health.suspects import HEALTH, SUSPECTS
from tasks.data.manifest.tables import write_table, write_text_table
from tasks.data.vectors.tensors import Tensor, write_tensors
from tasks.machine.files import write_json
from tasks.metrics.projection import project
from tasks.stage.params import load_params

ROOT = Path(__file__).parent.parent
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
           "--disable-sync", "--no-first-run"]  # fmt: skip
NUM_SAMPLES = 100_000
REPEATS = 5
DIM = 64
BATCHES = [f"2026-0{month}" for month in range(1, 6)]
UNLIKE = ["domain", "side", "batch", "path", "sample_id", "logit"]  # the columns of unlike.csv
REASONS = {"exact_duplicate": True, "conflicting_labels": True, "truncated": False, "not_an_image": False}
TIMES = """
() => new Promise((resolve) => new PerformanceObserver((list) => {
  const [load] = performance.getEntriesByType("navigation");
  resolve({ load: load.loadEventEnd, paint: list.getEntriesByName("first-contentful-paint")[0].startTime });
}).observe({ type: "paint", buffered: true }))
"""


def main() -> None:
    arguments = parse_arguments(__doc__)
    logging.getLogger("graftline").setLevel(logging.WARNING)
    num_samples = NUM_SAMPLES // 10 if arguments.quick else NUM_SAMPLES
    settings = {"num_samples": num_samples, "num_classes": 100, "repeats": REPEATS, "quick": arguments.quick}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_project(place, num_samples=num_samples, num_classes=100)
        start = time.perf_counter()
        page = draw(place)
        raw: dict[str, Any] = {"draw_seconds": time.perf_counter() - start, "megabytes": page.stat().st_size / 1e6}
        if CHROMIUM.is_file():
            raw["opened"] = [open_page(page) for _ in range(REPEATS)]
            later = [max(times["load"], times["paint"]) for times in raw["opened"]]
            raw["open_seconds"] = statistics.median(later) / 1000
        else:
            raw["skipped"] = f"there is no {CHROMIUM}: install Chromium, or set CHROMIUM to its path"
    claims = [
        Claim(name=f"report.{name}_at_100k", value=raw[name], target=target, at_least=False)
        for name, target in (("megabytes", 5), ("open_seconds", 2))
        if name in raw and not arguments.quick
    ]
    finish(settings=settings, raw=raw, claims=claims)


def draw(place: Path) -> Path:
    """Run the verb on the files of `write_project`."""
    out = place / "report" / "index.html"
    report.run(  # each argument by its name, so that mypy sees one that is missing
        validated=place / "validated", audit=place / "audit", training=place / "training",
        evaluation=place / "evaluation", regression=place / "regression", head=place / "head",
        adaptation=place / "adaptation", health=place / "health", batches=place / "batches.yaml", raw=place / "raw",
        out=out, report=load_params(ROOT / "params.yaml").report, modality="images",
    )  # fmt: skip
    return out


def open_page(page: Path) -> dict[str, float]:
    """Return milliseconds: load and paint since the start of the navigation, and the time to draw the map."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started, started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS) as browser:
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.goto(page.as_uri(), wait_until="load")
        times: dict[str, float] = window.evaluate(TIMES)
        start = time.perf_counter()
        window.locator("#map-canvas").scroll_into_view_if_needed()
        window.wait_for_selector("#map-legend li")
        return times | {"map": (time.perf_counter() - start) * 1000}


def write_project(place: Path, *, num_samples: int, num_classes: int) -> None:
    """Write made-up outputs of the stages before `report`."""
    rng = np.random.default_rng(0)
    names = [f"species {number:03d}" for number in range(num_classes)]
    labels = rng.integers(0, num_classes, num_samples)
    answers = {
        model: mistaken(labels, share, num_classes, rng) for model, share in (("candidate", 0.08), ("baseline", 0.1))
    }
    batches = np.array(BATCHES)[np.sort(rng.integers(0, len(BATCHES), num_samples))].tolist()
    paths = [f"{names[label]}/{rng.integers(0, 10**12):012d}.jpg" for label in labels]
    # those without an image come last in a batch, where the page draws its examples from the first
    identities = [f"f{hashlib.sha256(str(row).encode()).hexdigest()[1:]}" for row in range(num_samples)]
    newest = pd.Series(labels)[np.array(batches) == BATCHES[-1]]
    examples = newest.groupby(newest).head(1000 // num_classes).index
    for row in {*np.flatnonzero(answers["candidate"] != labels).tolist(), *examples.tolist()}:
        identities[row] = write_picture(place / "raw" / batches[row] / paths[row], rng)
    table = pd.DataFrame({"batch": batches, "path": paths, "sample_id": identities})
    answers["head"] = answers["baseline"]
    predictions = table.assign(
        target="label", label=np.array(names)[labels], is_leaked=rng.random(num_samples) < 0.01, is_shared=True
    )
    for model, answer in answers.items():
        predictions[model] = np.array(names)[answer]
        is_right = predictions[model] == predictions["label"]
        confidence = np.where(is_right, rng.beta(12, 1, num_samples), rng.beta(3, 2, num_samples))
        predictions[f"{model}_confidence"] = confidence
        predictions[f"{model}_label_probability"] = np.where(is_right, confidence, (1 - confidence) / 2)
    write_data(place, table.assign(label=predictions["label"], split="heldout"), rng)
    centres = rng.normal(size=(num_classes, DIM)).astype(np.float32)
    vectors = centres[labels] + rng.normal(scale=0.5, size=(num_samples, DIM)).astype(np.float32)
    write_results(place, predictions)
    places = Tensor(shape=(num_samples, 2), dtype=np.uint16, pieces=[project(vectors.astype(np.float16))])
    write_tensors(place / "evaluation" / "places.safetensors", {"places": places}, metadata={})


def mistaken(labels: NDArray[np.int64], share: float, num_classes: int, rng: Generator) -> NDArray[np.int64]:
    """Return the labels with a share of mistakes: the next class, or another one."""
    step = np.where(rng.random(len(labels)) < 0.6, 1, rng.integers(1, num_classes, len(labels)))
    return np.where(rng.random(len(labels)) < share, (labels + step) % num_classes, labels)


def write_picture(path: Path, rng: Generator) -> str:
    """Write a cloud of colours, 128 px wide, and return its sample_id."""
    noise = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    content = io.BytesIO()
    noise.resize((128, 112), Image.Resampling.BICUBIC).filter(ImageFilter.SMOOTH).save(content, "JPEG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def write_data(place: Path, manifest: pd.DataFrame, rng: Generator) -> None:
    """Write the manifest, a quarantine ledger, and the results of validation and audit."""
    (place / "batches.yaml").write_text(f"batches: {BATCHES}\n", "utf-8")
    for folder in ("validated/manifest", "audit", "health"):
        (place / folder).mkdir(parents=True)
    ledger, counts = [], {}
    for batch, rows in manifest.groupby("batch"):
        write_table(place / "validated" / "manifest" / f"{batch}.parquet", rows)
        counts[str(batch)] = {"in": len(rows) + 5 * len(REASONS), "used": len(rows), "pool": 0}
        for reason, is_decoded in REASONS.items():
            counts[str(batch)][f"quarantined.{reason}"] = 5
            for number in range(5):
                path = f"species {number:03d}/{reason}.jpg"
                identity = write_picture(place / "raw" / str(batch) / path, rng) if is_decoded else ""
                ledger.append([batch, path, identity, reason, "made up"])
    columns = ["batch", "path", "sample_id", "reason", "detail"]
    write_text_table(place / "validated" / "quarantine.csv", pd.DataFrame(ledger, columns=columns))
    write_json(place / "validated" / "classes.json", {"label": sorted(set(manifest["label"]))})
    tables: dict[str, Any] = {"class_changes": {}, "lost_classes": {}, "probation": {}, "without_samples": {}}
    empty = tables | {"expectations": [], "remarks": []}
    write_json(place / "validated" / "validation.json", empty | {"batches": counts})
    leaks = {batch: {"train": 200, "val": 46, "heldout": 197} for batch in BATCHES}
    audited = {
        "num_leaks": 1230,
        "num_leaked": 985,
        "batches": leaks,
        "limits": {"separates": True, "expected_recall": 0.98},
        "marks": None,
        "warnings": [],
    }
    write_json(place / "audit" / "audit.json", audited)
    write_text_table(place / "audit" / LEAKS, pd.DataFrame(columns=COLUMNS))
    nothing: dict[str, Any] = {"num_suspects": {}, "confusions": {}, "weak_slices": {}, "batches": {}}
    write_json(place / "health" / HEALTH, nothing)
    write_text_table(place / "health" / SUSPECTS, pd.DataFrame(columns=COLUMNS_OF_SUSPECTS))


def write_results(place: Path, predictions: pd.DataFrame) -> None:
    """Write results of the stages from train_head to regression for these predictions."""
    for name in ("head", "training", "adaptation", "evaluation", "regression"):
        (place / name).mkdir()
    write_json(place / "head" / "head.json", {})
    write_json(place / "adaptation" / "adaptation.json", {"domains": {}})
    write_text_table(place / "adaptation" / "unlike.csv", pd.DataFrame(columns=UNLIKE))
    n = len(predictions)
    is_right = {model: predictions[model] == predictions["label"] for model in ("candidate", "baseline", "head")}
    measured: dict[str, Any] = {}
    for model, right in is_right.items():
        accuracy = float(right.mean())
        values = {
            "accuracy": accuracy,
            "macro_f1": accuracy - 0.004,
            "log_loss": 0.4 * (1 - accuracy) + 0.2,
            "calibration_error": 0.021,
            "brier": 1.5 * (1 - accuracy),
        }
        width = 1.96 * (accuracy * (1 - accuracy) / n) ** 0.5
        intervals = {key: [value - width, value + width] for key, value in values.items()}
        measured[model] = values | {
            "intervals": intervals,
            "num_leaked": 985,
            "accuracy_without_leaks": accuracy - 0.001,
            "recall": {},
        }
    lost, gained = is_right["baseline"] & ~is_right["candidate"], is_right["candidate"] & ~is_right["baseline"]
    flips = {"negative": int(lost.sum()), "positive": int(gained.sum()), "num_samples": n, "p_value": 1.0}
    write_json(place / "evaluation" / "metrics.json", {"label": measured | {"flips": flips}})
    predictions.to_parquet(place / "evaluation" / "predictions.parquet")
    facts = predictions.assign(
        candidate_right=is_right["candidate"], baseline_right=is_right["baseline"], lost=lost, gained=gained
    )
    slices = []
    for column, key in (("class", "label"), ("batch", "batch")):
        table = facts.groupby(key).agg(
            num_samples=("lost", "size"),
            candidate_accuracy=("candidate_right", "mean"),
            baseline_accuracy=("baseline_right", "mean"),
            negative_flips=("lost", "sum"),
            positive_flips=("gained", "sum"),
        )
        width = 1.96 * (table["candidate_accuracy"] * (1 - table["candidate_accuracy"]) / table["num_samples"]) ** 0.5
        bounds = {
            "candidate_low": table["candidate_accuracy"] - width,
            "candidate_high": (table["candidate_accuracy"] + width).clip(upper=1),
        }
        slices.append(
            table.assign(target="label", column=column, num_shared=table["num_samples"], **bounds)
            .rename_axis("value")
            .reset_index()
        )
    pd.concat(slices).to_csv(place / "evaluation" / "slices.csv", index=False)
    bins = np.minimum((predictions["candidate_confidence"].to_numpy() * 15).astype(int), 14)
    reliability = facts.groupby(bins).agg(
        confidence=("candidate_confidence", "mean"), accuracy=("candidate_right", "mean"), count=("lost", "size")
    )
    reliability.assign(target="label").to_csv(place / "evaluation" / "reliability.csv", index=False)
    versions = {"torch": "2.15.0", "torchvision": "0.29.2"}
    lineage = {
        "epoch": 3,
        "data": "d" * 64,
        "backbone": "b" * 64,
        "head": "e" * 64,
        "seed": 0,
        "share": 1.0,
        "versions": versions,
    }
    sizes = {"candidate_bytes": 44_806_120, "baseline_bytes": 44_793_832}
    subject = {"stage": "finetuned", "candidate": "c" * 64, "lineage": lineage}
    write_json(place / "evaluation" / "subject.json", subject | sizes)
    rule = {
        "value": measured["candidate"]["accuracy"],
        "bound": "at least 0.9",
        "passed": True,
        "smallest_detectable": 0.004,
    }
    rules = [rule | {"name": name} for name in ("label accuracy", "label accuracy of batch 2026-05")]
    counts = {"num_tests": 2, "num_failed": 0, "num_heldout": n}
    verdict = {"verdict": "accepted", "rules": rules, "baseline": "a" * 64, "candidate": "c" * 64}
    counts |= {"num_decisions": 1, "is_worn": False}
    write_json(place / "regression" / "verdict.json", verdict | counts)
    epochs = np.arange(9)
    ends = {
        "train_loss": (1.5, 0.1),
        "val_loss": (1.4, 0.25),
        "val_calibrated_loss": (1.3, 0.2),
        "train_accuracy": (-0.5, 0.99),
        "val_accuracy": (-0.45, 0.95),
    }
    curves = {column: start * np.exp(-epochs / 3) + end for column, (start, end) in ends.items()}
    pd.DataFrame({"epoch": epochs, "is_kept": (epochs == 6).astype(int)} | curves).to_csv(
        place / "training" / "curves.csv", index=False
    )
    shares = [{"share": share, "loss": 0.9 - share / 2, "accuracy": 0.5 + share / 4} for share in (0.0, 0.5, 1.0)]
    reason = "the fine-tuned model is better than the head on val"
    tuned = {
        "ending": "every epoch was run",
        "epoch_kept": 6,
        "epochs": 8,
        "loss_gap": 0.15,
        "num_all_blocks": 19,
        "num_blocks": 4,
        "verdict": {"reason": reason, "candidates": shares, "p_value": 0.01, "share": 1.0},
    }
    write_json(place / "training" / "finetuning.json", tuned)


if __name__ == "__main__":
    main()
