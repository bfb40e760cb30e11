import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.data.health.leaks import COLUMNS, LEAKS
from tasks.data.manifest.tables import write_table
from tasks.data.samples.samples import sample_id
from tasks.data.samples.text_cells import canonical
from tasks.data.vectors.embeddings import write_embeddings
from tasks.machine.files import write_json
from tasks.targets.head import load_heads
from tasks.text.words import load_vocabulary, terms_of
from tasks.train_head import run
from tasks.training.heads.options import HeadOptions

CLASSES = ["cat", "dog", "eel"]
PARAMS = HeadOptions(
    head="logistic",
    class_weights="none",
    hidden_features=16,
    l2_strengths=[0.01, 1.0],
    max_iterations=200,
    words="auto",
    sharing="auto",
)


@pytest.fixture(autouse=True)
def one_thread():
    """Layers as small as these are not worth sharing."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


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


def add_pool(folder, manifest, vectors):
    """Add a batch of unlabelled samples, whose vectors would mislead."""
    pool = manifest.drop(columns="label").assign(batch="b", split="pool", sample_id="p" + manifest["sample_id"])
    write_table(folder / "validated" / "manifest" / "b.parquet", pool)
    write_embeddings(
        folder / "embeddings" / "b.safetensors", [-vectors.astype(np.float16)], shape=vectors.shape, recipe="r"
    )
    (folder / "batches.yaml").write_text("batches: [a, b]", "utf-8")


def train(folder, *, out="head", modality="images", **changes):
    run(
        manifests=folder / "validated" / "manifest",
        classes=folder / "validated" / "classes.json",
        embeddings=folder / "embeddings",
        audit=folder / "audit",
        batches=folder / "batches.yaml",
        raw=folder / "raw",
        out=folder / out,
        train_head=replace(PARAMS, **changes),
        modality=modality,
        seed=0,
    )
    heads, _ = load_heads(folder / out)
    return heads["label"]


def is_same(one, other):
    return all(
        np.array_equal(left, right)
        for of_one, of_other in zip(one.layers, other.layers, strict=True)
        for left, right in zip(of_one, of_other, strict=True)
    )


def accuracy(head, manifest, vectors, split):
    is_there = (manifest["split"] == split).to_numpy()
    said = np.array(CLASSES)[head.logits(vectors).argmax(axis=1)]
    return (said == manifest["label"])[is_there].mean()


@pytest.mark.parametrize("kind", ["logistic", "centroid", "mlp"])
def test_head_tells_the_classes_of_held_out_samples_apart(inputs, kind):
    folder, manifest, vectors = inputs
    assert accuracy(train(folder, head=kind), manifest, vectors, "heldout") > 0.9


def test_held_out_labels_have_no_influence(inputs):
    folder, manifest, _ = inputs
    before = train(folder)
    is_heldout = manifest["split"] == "heldout"
    changed = manifest.assign(label=manifest["label"].where(~is_heldout, "cat"))
    write_table(folder / "validated" / "manifest" / "a.parquet", changed)
    after = train(folder)
    assert is_same(before, after)


def test_pool_has_no_influence(inputs):
    before = train(inputs[0])
    add_pool(*inputs)
    assert is_same(before, train(inputs[0]))


@pytest.mark.parametrize("split", ["train", "val"])
def test_sample_that_leaked_has_no_influence(inputs, split):
    """With a wrong label it would have: the head is the same as with the right one."""
    folder, manifest, _ = inputs
    leaking = manifest[manifest["split"] == split].head(8)
    write_leaks(folder, leaking["sample_id"].tolist())
    before = train(folder)
    changed = manifest.assign(label=manifest["label"].where(~manifest.index.isin(leaking.index), "cat"))
    write_table(folder / "validated" / "manifest" / "a.parquet", changed)
    assert is_same(before, train(folder))
    write_leaks(folder, [])
    assert not is_same(before, train(folder))


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


@pytest.mark.parametrize("kind", ["logistic", "centroid", "mlp"])
def test_same_input_gives_the_same_bytes(inputs, kind):
    folder, _, _ = inputs
    train(folder, head=kind)
    train(folder, head=kind, out="again")
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


def change(folder, manifest):
    write_table(folder / "validated" / "manifest" / "a.parquet", manifest)


def test_target_with_one_class_in_train_is_named(inputs):
    folder, manifest, _ = inputs
    change(folder, manifest.assign(label=manifest["label"].where(manifest["split"] != "train", "cat")))
    with pytest.raises(ValueError, match=r"^target label: train has 1 class, expected at least 2: add [^\n]*$"):
        train(folder)


@pytest.mark.parametrize("kind", ["logistic", "centroid", "mlp"])
def test_class_that_is_absent_from_train_is_named(inputs, kind):
    folder, manifest, _ = inputs
    is_eel = (manifest["split"] == "train") & (manifest["label"] == "eel")
    change(folder, manifest.assign(label=manifest["label"].where(~is_eel, "cat")))
    with pytest.raises(ValueError, match=r"^target label: train has no sample of class eel: add [^\n]*$"):
        train(folder, head=kind)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("kind", ["logistic", "centroid", "mlp"])
def test_embedding_that_is_no_number_is_refused(inputs, kind, split):
    folder, manifest, vectors = inputs
    vectors[np.flatnonzero(manifest["split"] == split)[4], 1] = np.nan
    write_embeddings(
        folder / "embeddings" / "a.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="r"
    )
    with pytest.raises(ValueError, match=r"^target label: the embeddings have numbers that are not finite: run embed"):
        train(folder, head=kind)


def test_mlp_without_labels_on_val_is_refused(inputs):
    folder, manifest, _ = inputs
    in_val = manifest["split"] == "val"
    write_table(
        folder / "validated" / "manifest" / "a.parquet", manifest.assign(split=manifest["split"].mask(in_val, "train"))
    )
    with pytest.raises(
        ValueError, match=r"^target label: val has no labels, by which the epoch of an mlp is chosen: land"
    ):
        train(folder, head="mlp")


def test_temperature_is_calibrated_on_val_and_recorded(inputs):
    folder, _, _ = inputs
    head = train(folder, head="centroid")
    described = json.loads((folder / "head" / "head.json").read_text("utf-8"))
    assert described["temperature"]["label"] == head.temperature != 1.0


def test_target_without_labels_on_val_is_not_calibrated(inputs):
    folder, manifest, _ = inputs
    change(folder, manifest.assign(label=manifest["label"].where(manifest["split"] != "val", None)))
    assert train(folder).temperature == 1.0


# texts


def put_texts(folder, manifest, write):
    """Give every sample a text, which `write` makes of its row."""
    place = folder / "raw" / "a"
    place.mkdir(parents=True, exist_ok=True)
    texts = [write(row) for row in manifest.itertuples()]
    for number, text in enumerate(texts):
        (place / f"{number}.txt").write_text(text, "utf-8")
    change(
        folder,
        manifest.assign(
            sample_id=[sample_id(canonical([text])) for text in texts], path=[f"{n}.txt" for n in range(len(texts))]
        ),
    )


def telling(row):
    return f"number {row.Index} is a {row.label}"


def test_words_that_tell_more_than_the_vectors_count_more(inputs, caplog):
    folder, manifest, _ = inputs
    put_texts(folder, manifest, telling)
    write_embeddings(
        folder / "embeddings" / "a.safetensors",
        [np.random.default_rng(1).normal(size=(90, 3)).astype(np.float16)],
        shape=(90, 3),
        recipe="r",
    )
    with caplog.at_level("INFO", logger="graftline"):
        head = train(folder, modality="text")
    vocabulary = load_vocabulary(folder / "head")
    rows = [vocabulary.row(f"is a {name}") for name in CLASSES]
    assert head.words.join(np.zeros((3, 3), np.float32), rows).argmax(axis=1).tolist() == [0, 1, 2]
    assert head.words.factors.of_vector < 0.5
    assert "of words 1.0000, joined 1.0000 (words count " in caplog.text


def test_vocabulary_is_that_of_train(inputs):
    """A text of val or held-out has no influence on it; held-out and leaked texts need not even be there."""
    folder, manifest, _ = inputs
    put_texts(folder, manifest, lambda row: f"{row.split} {row.label} {row.Index}")
    leaked = pd.read_parquet(folder / "validated" / "manifest" / "a.parquet").query("split == 'train'").head(2)
    write_leaks(folder, leaked["sample_id"].tolist())
    for number in [*np.flatnonzero(manifest["split"] == "heldout"), *leaked.index]:
        (folder / "raw" / "a" / f"{number}.txt").unlink()
    train(folder, modality="text")
    known = load_vocabulary(folder / "head").hashes
    assert np.isin(terms_of("train")[0], known).all()
    assert not np.isin(terms_of("val")[0], known).any()
    assert not np.isin(terms_of("heldout")[0], known).any()
    assert not np.isin(terms_of(str(leaked.index[0]))[0], known).any()


def test_same_texts_give_the_same_bytes(inputs):
    folder, manifest, _ = inputs
    put_texts(folder, manifest, telling)
    train(folder, modality="text")
    train(folder, modality="text", out="again")
    for file in ("head.safetensors", "head.json", "words.safetensors"):
        assert (folder / "head" / file).read_bytes() == (folder / "again" / file).read_bytes()


@pytest.mark.parametrize("case", ["never", "images", "no words"])
def test_head_reads_no_words_where_there_are_none_to_read(inputs, case):
    folder, manifest, _ = inputs
    if case == "no words":
        put_texts(folder, manifest, lambda row: "🎉" * (row.Index + 1))
    modality = "images" if case == "images" else "text"
    head = train(folder, modality=modality, words="never" if case == "never" else "auto")
    assert head.words is None
    assert load_vocabulary(folder / "head") is None
    assert is_same(head, train(folder, modality=modality, words="never", out="again"))
