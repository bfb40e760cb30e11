import json

import numpy as np
import pandas as pd
import pytest

from tasks.data.embeddings import write_embeddings
from tasks.data.leaks import COLUMNS, LEAKS
from tasks.data.manifest import write_table
from tasks.files import write_json
from tasks.models.head import load_heads
from tasks.params import TrainHeadParams
from tasks.train_head import run

CLASSES = ["cat", "dog", "eel"]
PARAMS = TrainHeadParams(l2_strengths=[0.01, 1.0], max_iterations=200)


@pytest.fixture
def inputs(tmp_path):
    """A validated batch of 90 samples and its vectors, a direction a class."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 90)
    vectors = np.eye(3)[labels] * 4 + generator.normal(size=(90, 3))
    manifest = pd.DataFrame(
        {
            "batch": "a",
            "sample_id": [f"s{number:02d}" for number in range(90)],
            "label": np.array(CLASSES)[labels],
            "split": generator.permutation(["train", "val", "heldout"] * 30),
        }
    )
    (tmp_path / "validated" / "manifest").mkdir(parents=True)
    write_table(tmp_path / "validated" / "manifest" / "a.parquet", manifest)
    write_json(tmp_path / "validated" / "classes.json", {"label": CLASSES})
    (tmp_path / "embeddings").mkdir()
    write_embeddings(
        tmp_path / "embeddings" / "a.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="r"
    )
    (tmp_path / "batches.yaml").write_text("batches: [a]", "utf-8")
    write_leaks(tmp_path, [])
    return tmp_path, manifest, vectors


def write_leaks(folder, ids):
    (folder / "audit").mkdir(exist_ok=True)
    pd.DataFrame({"sample_id": ids}, columns=COLUMNS).to_csv(folder / "audit" / LEAKS, index=False)


def train(folder, *, out="head"):
    run(
        manifests=folder / "validated" / "manifest",
        classes=folder / "validated" / "classes.json",
        embeddings=folder / "embeddings",
        audit=folder / "audit",
        batches=folder / "batches.yaml",
        out=folder / out,
        train_head=PARAMS,
    )
    layers, _ = load_heads(folder / out)
    return layers["label"]


def accuracy(head, manifest, vectors, split):
    is_there = (manifest["split"] == split).to_numpy()
    weight, bias = head
    said = np.array(CLASSES)[(vectors @ weight.T + bias).argmax(axis=1)]
    return (said == manifest["label"])[is_there].mean()


def test_head_tells_the_classes_of_held_out_samples_apart(inputs):
    folder, manifest, vectors = inputs
    assert accuracy(train(folder), manifest, vectors, "heldout") > 0.9


def test_held_out_labels_have_no_influence(inputs):
    folder, manifest, _ = inputs
    before = train(folder)
    is_heldout = manifest["split"] == "heldout"
    changed = manifest.assign(label=manifest["label"].where(~is_heldout, "cat"))
    write_table(folder / "validated" / "manifest" / "a.parquet", changed)
    after = train(folder)
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("split", ["train", "val"])
def test_sample_that_leaked_has_no_influence(inputs, split):
    """With a wrong label it would have: the head is the same as with the right one."""
    folder, manifest, _ = inputs
    leaking = manifest[manifest["split"] == split].head(8)
    write_leaks(folder, leaking["sample_id"].tolist())
    before = train(folder)
    changed = manifest.assign(label=manifest["label"].where(~manifest.index.isin(leaking.index), "cat"))
    write_table(folder / "validated" / "manifest" / "a.parquet", changed)
    assert all(np.array_equal(one, other) for one, other in zip(before, train(folder), strict=True))
    write_leaks(folder, [])
    assert not all(np.array_equal(one, other) for one, other in zip(before, train(folder), strict=True))


def test_missing_audit_is_named(inputs):
    folder, _, _ = inputs
    (folder / "audit" / LEAKS).unlink()
    with pytest.raises(ValueError, match=r"leaks\.csv is missing: run audit"):
        train(folder)


def test_description_has_the_classes_in_the_order_of_the_rows(inputs):
    folder, _, _ = inputs
    train(folder)
    described = json.loads((folder / "head" / "head.json").read_text("utf-8"))
    assert described["classes"] == {"label": CLASSES}
    assert described["l2"]["label"] in PARAMS.l2_strengths


def test_same_input_gives_the_same_bytes(inputs):
    folder, _, _ = inputs
    train(folder)
    train(folder, out="again")
    for file in ("head.safetensors", "head.json"):
        assert (folder / "head" / file).read_bytes() == (folder / "again" / file).read_bytes()


def test_embeddings_of_another_manifest_are_refused(inputs):
    folder, _, vectors = inputs
    write_embeddings(
        folder / "embeddings" / "a.safetensors", [vectors[:80].astype(np.float16)], shape=vectors[:80].shape, recipe="r"
    )
    with pytest.raises(ValueError, match="80 embeddings for 90 samples: run embed again"):
        train(folder)


def test_missing_classes_are_named(inputs):
    folder, _, _ = inputs
    (folder / "validated" / "classes.json").unlink()
    with pytest.raises(ValueError, match=r"classes\.json is missing"):
        train(folder)
