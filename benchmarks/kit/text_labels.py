"""Measure the worth of few labels of texts: the model that the project ships beside those that a user would write.

All methods learn from the same texts. Those that make choices make them on the same val. The held-out texts judge.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kit.machine import show
from benchmarks.kit.news import BATCH, MINILM, Project, Rows
from tasks import embed, finetune, train_head
from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import read_embeddings
from tasks.evaluate import parts_of
from tasks.models.bundle import load_bundle
from tasks.models.weight_folder import find_folder
from tasks.prediction.answers import Answerer, answers_of_words
from tasks.prediction.answers import answers as answers_of_heads
from tasks.prediction.heldout import ask, words_of
from tasks.stage.modality import room
from tasks.targets.classes import likeliest
from tasks.targets.head import Head, load_heads
from tasks.text.words import load_vocabulary

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # C of scikit-learn's logistic regression, of which val chooses
DEFAULT = 1.0  # scikit-learn's own

# The trainer as the README of SetFit has it, in an interpreter of its own that has setfit
SETFIT = """
import json, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
about = json.load(open(sys.argv[1]))
model = SetFitModel.from_pretrained(about["model"])
data = Dataset.from_dict({"text": about["texts"], "label": about["labels"]})
arguments = TrainingArguments(batch_size=16, num_epochs=1, seed=about["seed"], report_to="none", save_strategy="no",
                              output_dir=sys.argv[2], show_progress_bar=False)
Trainer(model=model, args=arguments, train_dataset=data).train()
predicted = [int(label) for label in model.predict(about["heldout"])]
print(json.dumps(predicted))
"""


@dataclass
class Measured:
    """Accuracies on held-out, 0..1, a number a draw, by method."""

    accuracies: dict[str, list[float]] = field(default_factory=dict)

    def add(self, method: str, accuracy: float) -> None:
        self.accuracies.setdefault(method, []).append(accuracy)

    def means(self) -> dict[str, float]:
        return {method: float(np.mean(values)) for method, values in self.accuracies.items()}

    def deviations(self) -> dict[str, float]:
        return {method: float(np.std(values)) for method, values in self.accuracies.items()}


class Judge:
    """The news embedded once, by the project's stage and by the peer, and the draws judged on held-out."""

    def __init__(self, project: Project, *, setfit: str | None) -> None:
        self.project, self.news, self.setfit = project, project.news, setfit
        everything = project.manifest("everything", project.news.pool, np.empty(0, np.int64))
        embed.run(
            raw=project.place / "raw" / BATCH, manifest=everything / f"{BATCH}.parquet",
            backbone=project.place / "backbone", store=project.place / "store",
            out=project.place / "embeddings" / f"{BATCH}.safetensors",
            hashes=project.place / "hashes" / f"{BATCH}.safetensors", embed=project.params.embed, modality="text",
        )  # fmt: skip
        self.seconds: dict[str, list[float]] = {}  # of training and answering, a number a draw, by method
        vectors = read_embeddings(project.place / "embeddings", [BATCH], num_samples=len(project.rows))
        self.vectors = vectors[:].astype(np.float16)

    def measure(self, num_labels: int | None, *, seeds: int, is_finetuned: bool) -> dict[str, Any]:
        """Return means and deviations over the draws, and the accuracy of each."""
        measured, self.seconds = Measured(), {}
        for seed in range(seeds):
            show(f"{num_labels or 'all'} labels a class: draw {seed + 1} of {seeds}")
            draw = self.news.draw(num_labels, seed)
            place = self.project.place / f"draw-{num_labels}-{seed}"
            for method, predicted in self.shipped(place, *draw, seed=seed, is_finetuned=is_finetuned).items():
                measured.add(method, self.accuracy(predicted))
            for method, predicted in self.plain(*draw).items():
                measured.add(method, self.accuracy(predicted))
            if self.setfit and num_labels == 8:
                began = time.monotonic()
                measured.add("setfit", self.accuracy(self.contrastive(self.setfit, draw[0], seed=seed)))
                self.seconds.setdefault("setfit", []).append(time.monotonic() - began)
            shutil.rmtree(place)
        train, val = self.news.draw(num_labels, 0)
        about = {"num_train": len(train), "num_val": len(val), "num_heldout": len(self.news.heldout)}
        return about | {
            "mean": measured.means(),
            "deviation": measured.deviations(),
            "draws": measured.accuracies,
            "seconds": self.seconds,
        }

    def accuracy(self, predicted: NDArray[np.int64]) -> float:
        return float((predicted == self.news.labels[self.news.heldout]).mean())

    def shipped(
        self, place: Path, train: Rows, val: Rows, *, seed: int, is_finetuned: bool
    ) -> dict[str, NDArray[np.int64]]:
        """Return the answers on held-out of the head as it is shipped, of its parts, and of the candidate."""
        project = self.project
        manifests = project.manifest(place.name, train, val)
        common: dict[str, Any] = {
            "manifests": manifests, "classes": project.place / "classes.json", "audit": project.place / "no-leaks",
            "batches": project.place / "batches.yaml", "raw": project.place / "raw", "modality": "text", "seed": seed,
        }  # fmt: skip
        out = project.place / f"head-{place.name}"
        train_head.run(embeddings=project.place / "embeddings", out=out, train_head=project.params.train_head, **common)
        rows = project.rows.iloc[self.news.heldout].reset_index(drop=True)
        decode = room("text", "decode")
        samples = Samples[str](rows, raw=project.place / "raw", decode=decode.decode_sample, read=decode.read)
        heads, targets = load_heads(out)
        words = words_of(samples, load_vocabulary(out))
        vectors = self.vectors[self.news.heldout]
        alone = {target: Head(layers=head.layers, temperature=head.temperature) for target, head in heads.items()}
        answers = {
            "head": answers_of_heads(heads, targets, vectors, words),
            "encoder": answers_of_heads(alone, targets, vectors, []),
            "words": answers_of_words(heads, words),
        }  # fmt: skip
        if is_finetuned:
            began = time.monotonic()
            finetune.run(
                split=project.place / "split.json", backbone=project.place / "backbone", head=out,
                start_record=project.place / "start.json", start=project.place / "start",
                scratch=project.place / "scratch", out=place / "candidate", curves=place / "curves",
                finetune=project.params.finetune, train_head=project.params.train_head, scan=project.params.scan,
                **common,
            )  # fmt: skip
            model, lineage = load_bundle(place / "candidate")
            asked = ask(
                {"candidate": Answerer(model)}, rows, raw=project.place / "raw", store=project.place / "store",
                parts=parts_of("text", []), alterations=[],
            )  # fmt: skip
            self.seconds.setdefault("candidate", []).append(time.monotonic() - began)
            # a candidate that is the head alone has no gain, whatever the rounding of its vectors changes
            answers["candidate"] = asked.models["candidate"] if lineage["stage"] == "finetuned" else answers["head"]
            show(f"  the candidate is {lineage['stage']}")
        shutil.rmtree(out)
        return {name: likeliest(answer["label"]) for name, answer in answers.items()}

    def plain(self, train: Rows, val: Rows) -> dict[str, NDArray[np.int64]]:
        """Return the answers of scikit-learn's logistic regression on MiniLM's vectors, and on TF-IDF."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = np.array(self.news.texts, dtype=object)
        counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts[train])

        def vectors_of(rows: Rows) -> Any:
            return self.vectors[rows].astype(np.float32)

        def counts_of(rows: Rows) -> Any:
            return counts.transform(texts[rows])

        features = {"plain encoder": vectors_of, "plain words": counts_of}
        return {
            f"{name}{suffix}": self.regression(features_of, train, val, strengths)
            for name, features_of in features.items()
            for suffix, strengths in (("", (DEFAULT,)), (", chosen", STRENGTHS))
        }

    def regression(
        self, features: Callable[[Rows], Any], train: Rows, val: Rows, strengths: Sequence[float]
    ) -> NDArray[np.int64]:
        """Return the answers of the strength with the best accuracy on val; of equal ones, of scikit-learn's own."""
        from sklearn.linear_model import LogisticRegression

        labels = self.news.labels
        fitted = [
            LogisticRegression(C=strength, max_iter=2000).fit(features(train), labels[train]) for strength in strengths
        ]
        best = max(fitted, key=lambda model: (model.score(features(val), labels[val]), model.C == DEFAULT))
        answers: NDArray[np.int64] = best.predict(features(self.news.heldout))
        return answers

    def contrastive(self, python: str, train: Rows, *, seed: int) -> NDArray[np.int64]:
        """Return the answers of SetFit, run by an interpreter that has it."""
        place = self.project.place / "setfit"
        place.mkdir(exist_ok=True)
        about = {
            "model": str(find_folder(MINILM)), "seed": seed, "texts": [self.news.texts[row] for row in train],
            "labels": self.news.labels[train].tolist(), "heldout": [self.news.texts[row] for row in self.news.heldout],
        }  # fmt: skip
        (place / "about.json").write_text(json.dumps(about), "utf-8")
        command = [python, "-W", "ignore", "-c", SETFIT, str(place / "about.json"), str(place)]
        done = subprocess.run(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=subprocess.PIPE, check=True)
        return np.array(json.loads(done.stdout.splitlines()[-1]))
