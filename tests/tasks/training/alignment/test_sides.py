"""The sources and the domains of a manifest, as the methods take them."""

import numpy as np
import pandas as pd

from tasks.data.manifest.manifest import domains_of
from tasks.training.alignment.sides import Sides

LABELS = [0, 1, 0, 1, 0, -1, 1, 0]


def sides(*, domains, batches, splits, labels, wanted):
    rows = pd.DataFrame({
        "sample_id": [f"{number:02x}" for number in range(len(labels))], "batch": batches, "path": "a.png",
        "domain": pd.Series(domains, dtype="str"), "split": splits,
        "label": pd.Series([None if label < 0 else str(label) for label in labels], dtype="str"),
    })  # fmt: skip
    return Sides.of(rows, domains_of(rows), {"label": np.array(labels)}, wanted=wanted)


def made(domains, batches, *, wanted):
    splits = ["train", "train", "val", "train", "train", "pool", "train", "val"]
    return sides(domains=domains, batches=batches, splits=splits, labels=LABELS, wanted=wanted)


def test_sources_are_the_other_domains_with_their_own_train_and_val(monkeypatch):
    monkeypatch.setattr("tasks.training.alignment.sides.LEAST_SAMPLES", 2)
    found = made(["a", "a", "a", "b", "b", "c", "c", "c"], ["one"] * 8, wanted=["c"])
    vectors = np.arange(len(found.sources))[:, None].astype(np.float32)
    first, second = found.source_domains("label", vectors, recipe="r")
    assert (first.name, second.name) == ("a", "b")
    assert (first.train[0].ravel().tolist(), first.train[1].tolist()) == ([0, 1], [0, 1])
    assert (first.val[0].ravel().tolist(), second.val[1].tolist()) == ([2], [])
    target = found.target_domain("c", "label", np.zeros((3, 1), np.float32), recipe="r")
    assert target.labels.tolist() == [-1, 1, 0]
    assert found.num_labels("c") == 2
    assert found.num_sources() == {"a": 3, "b": 2}


def test_batches_without_a_domain_are_one_source():
    """A batch may have one class only, and would then look like a shift."""
    found = made([None] * 5 + ["c"] * 3, ["one", "one", "two", "two", "two", "x", "x", "x"], wanted=["c"])
    [source] = found.source_domains("label", np.zeros((len(found.sources), 1), np.float32), recipe="r")
    assert source.name == "batches without a domain"
    assert found.num_sources() == {"batches without a domain": 5}


def test_domains_of_few_samples_are_one_source():
    """Standardised by themselves, they would lose what tells their classes; a column may name thousands of them."""
    found = made(["a", "a", "a", "b", "b", "c", "c", "c"], ["one"] * 8, wanted=["c"])
    [source] = found.source_domains("label", np.zeros((len(found.sources), 1), np.float32), recipe="r")
    assert source.name == "domains of few samples"
    assert len(source.train[1]) == 4
    assert found.num_sources() == {"domains of few samples": 5}


def test_names_of_domains_stay_on_their_line_of_a_message():
    found = made(["a\nb"] * 5 + ["c\td"] * 3, ["one"] * 8, wanted=["c\td"])
    [source] = found.source_domains("label", np.zeros((len(found.sources), 1), np.float32), recipe="r")
    target = found.target_domain("c\td", "label", np.zeros((3, 1), np.float32), recipe="r")
    assert (source.name, target.name) == (r"a\nb", r"c\td")


def test_batch_can_be_the_domain_to_adapt_to():
    found = made([None] * 8, ["one"] * 5 + ["two"] * 3, wanted=["two"])
    assert found.targets["two"].tolist() == [5, 6, 7]
    [source] = found.source_domains("label", np.zeros((len(found.sources), 1), np.float32), recipe="r")
    assert source.name == "one"
