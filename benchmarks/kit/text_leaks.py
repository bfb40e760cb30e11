"""Plant altered copies of texts on both sides of the split; count those that the audit finds, and other findings."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.kit.machine import show
from benchmarks.kit.news import BATCH, Project, Rows
from tasks import audit, embed
from tasks.data.health.leaks import LEAKS, read_leaks
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import sample_id
from tasks.data.samples.text_cells import canonical
from tasks.machine.files import write_json
from tasks.text.alterations import ALTERED_COPIES, mistyped

PLANTED = 20  # pairs of each kind in a draw, half of them with the copy in train
SHINGLE = 3  # words
COPIED = 0.25  # share of the shingles of two texts that they have in common: one was copied from the other
RARE = 0.005  # share of all texts that have a word: two that share two such words report the same event

Alter = Callable[[str, float], str]

# alterations that the audit's own probes do not cover
UNPROBED: dict[str, Alter] = {
    "mistyped": lambda text, strength: mistyped(text),
    "without its title": lambda text, strength: text.partition("\n")[2],
    "with a word before it": lambda text, strength: f"UPDATE {int(9 * strength) + 1} - {text}",
    "first four fifths": lambda text, strength: text[: len(text) * 4 // 5],
    "without accents": lambda text, strength: "".join(
        letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter)
    ),
}


class Planted:
    """The news of a project, all but the held-out side learned from, into which leaks are planted."""

    def __init__(self, project: Project) -> None:
        self.project, self.news = project, project.news
        self.own = self.embed(BATCH, split_of(project, project.news.pool))
        self.num_texts = Counter(word for text in self.news.texts for word in words_of(text))

    def measure(self, *, seeds: int) -> dict[str, Any]:
        """Return recall and false alarms, means over the draws, by kind too."""
        show("leaks: without plants")
        own, limits = self.audit([BATCH])
        kinship = Counter(self.kinship(row) for row in own.itertuples())
        draws = [self.draw(seed, ALTERED_COPIES) for seed in range(seeds)]
        unprobed = self.draw(seeds, UNPROBED)
        used = int((self.own["split"] == "train").sum())
        return {
            "recall": float(np.mean([draw["recall"] for draw in draws])),
            "recall_by_kind": {
                kind: float(np.mean([draw["recall_by_kind"][kind] for draw in draws])) for kind in ALTERED_COPIES
            },
            "unprobed": unprobed["recall_by_kind"],
            "num_planted": sum(draw["num_planted"] for draw in draws),
            "false_alarms": kinship["strangers"] / used,
            "num_used": used,
            "own": dict(kinship),
            "limits": limits,
            "draws": draws,
        }

    def draw(self, seed: int, kinds: dict[str, Alter]) -> dict[str, Any]:
        show(f"leaks: draw {seed + 1}")
        batch = f"planted{seed}"
        pairs = pd.DataFrame(self.plant(batch, seed, kinds))
        self.embed(batch, pairs)
        leaks, _ = self.audit([BATCH, batch])
        is_found = pairs["used"].isin(set(leaks["sample_id"]))
        return {
            "recall": float(is_found.mean()),
            "recall_by_kind": {kind: float(is_found[pairs["kind"] == kind].mean()) for kind in kinds},
            "num_planted": len(pairs),
        }

    def plant(self, batch: str, seed: int, kinds: dict[str, Alter]) -> Iterator[dict[str, Any]]:
        """Write the copies, and yield the manifest row of each with its kind and the id of the side that is used.

        Half of the copies are learned from and their originals judge; for the others it is the other way round.
        """
        chance = np.random.default_rng(seed + 1)
        sides = {"train": chance.permutation(self.news.heldout), "heldout": chance.permutation(self.news.pool)}
        folder = self.project.place / "raw" / batch
        folder.mkdir()
        for number, (kind, alter) in enumerate(kinds.items()):
            for split, originals in sides.items():
                for row in originals[number * PLANTED // 2 : (number + 1) * PLANTED // 2].tolist():
                    original = self.news.texts[row]
                    copy = alter(original, float(chance.random()))
                    if copy == original or len(copy) < 40:  # too little of it is left
                        continue
                    path = f"{number}-{split}-{row}.txt"
                    (folder / path).write_text(copy, "utf-8", newline="")
                    identity = sample_id(canonical([copy]))
                    yield {
                        "batch": batch, "path": path, "sample_id": identity, "split": split, "kind": kind,
                        "characters": len(copy), "label": self.news.names[self.news.labels[row]],
                        "used": identity if split == "train" else self.own.iloc[row]["sample_id"],
                    }  # fmt: skip

    def kinship(self, row: Any) -> str:
        """Return the kinship of a text that the audit takes out with its twin: copy, same event, or stranger."""
        left, right = (self.news.texts[int(path.removesuffix(".txt"))] for path in (row.path, row.twin_path))
        one, other = shingles(left), shingles(right)
        if len(one & other) >= COPIED * max(min(len(one), len(other)), 1):
            return "copies"
        most = RARE * len(self.news.texts)
        rare = [word for word in words_of(left) & words_of(right) if self.num_texts[word] <= most]
        return "same event" if len(rare) >= 2 else "strangers"

    def embed(self, batch: str, rows: pd.DataFrame) -> pd.DataFrame:
        """Embed the rows of a batch, and return them."""
        place = self.project.place
        manifest = place / "manifests" / f"{batch}.parquet"
        manifest.parent.mkdir(exist_ok=True)
        write_table(manifest, rows.drop(columns=["kind", "used"], errors="ignore"))
        embed.run(
            raw=place / "raw" / batch, manifest=manifest, backbone=place / "backbone", store=place / "store",
            out=place / "vectors" / f"{batch}.safetensors", hashes=place / "bits" / f"{batch}.safetensors",
            embed=self.project.params.embed, modality="text",
        )  # fmt: skip
        return rows

    def audit(self, batches: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Return the leaks in these batches, and the limits that were set."""
        place = self.project.place
        (place / "audited.yaml").write_text(json.dumps({"batches": batches}), "utf-8")
        write_json(place / "no-classes.json", {})  # no class has to be in every split
        audit.run(
            manifests=place / "manifests", classes=place / "no-classes.json", embeddings=place / "vectors",
            hashes=place / "bits", batches=place / "audited.yaml", scratch=place / "scratch", out=place / "audit",
            health=place / "health", audit=self.project.params.audit, modality="text", seed=0,
        )  # fmt: skip
        limits = json.loads((place / "audit" / "audit.json").read_text("utf-8"))["limits"]
        return read_leaks(place / "audit" / LEAKS), limits


def split_of(project: Project, train: Rows) -> pd.DataFrame:
    """Return the rows of the project, those of `train` learned from and the others held-out."""
    split = np.full(len(project.rows), "heldout", dtype=object)
    split[train] = "train"
    return project.rows.assign(split=split)


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.casefold().split()
    return {tuple(words[start : start + SHINGLE]) for start in range(max(len(words) - SHINGLE + 1, 1))}
