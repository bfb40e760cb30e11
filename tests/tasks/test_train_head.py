import json
import re
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
    return load_heads(folder / out)[0].get("label")


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


def test_head_says_how_much_all_depths_count_where_features_are_powers(inputs):
    folder, manifest, vectors = inputs
    train(folder)
    assert "share_of_all_depths" not in json.loads((folder / "head/head.json").read_text("utf-8"))
    wide = np.hstack([vectors, vectors[::-1]])  # the last depth knows nothing
    write_embeddings(
        folder / "embeddings/a.safetensors", [wide.astype(np.float16)], shape=wide.shape, recipe="r", part_dims=[3, 3]
    )
    assert accuracy(train(folder), manifest, wide, "heldout") > 0.9
    assert json.loads((folder / "head/head.json").read_text("utf-8"))["share_of_all_depths"]["label"] > 0.5


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


@pytest.mark.parametrize("kind", ["centroid", "mlp"])
def test_head_of_texts_is_the_same_beside_another_target(inputs, kind):
    folder, manifest, _ = inputs
    alone = train(folder, modality="text", words="never", head=kind)
    write_table(folder / "validated" / "manifest" / "a.parquet", manifest.assign(other=manifest["label"]))
    write_json(folder / "validated" / "classes.json", {"label": CLASSES, "other": CLASSES})
    beside = train(folder, out="both", modality="text", words="never", head=kind)
    assert is_same(alone, beside)


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


# other kinds, and several targets

DEGREES = {"kind": "number", "level": 0.5, "loss": "squared", "unit": "degrees"}
OTHERS = {
    "marks": {"kind": "several", "labels": ["round", "sharp"]},
    "grade": {"kind": "ordinal", "steps": ["low", "mid", "high"]},
    "angle": DEGREES,
}


@pytest.fixture
def kinds(inputs):
    """Beside the classes: marks, a grade and an angle, which follow from the vectors; some samples have no angle."""
    folder, manifest, vectors = inputs
    angles = 30 * vectors[:, 0] + 5
    more = {
        "marks": [json.dumps([name for name, is_on in zip(("round", "sharp"), row, strict=True) if is_on])
                  for row in vectors[:, :2] > 2],
        "grade": np.array(["low", "mid", "high"])[np.digitize(vectors[:, 2], (0.5, 3.0))],
        "angle": [None if row % 9 == 0 else repr(angle) for row, angle in enumerate(angles.tolist())],
    }  # fmt: skip
    change(folder, manifest.assign(**more))
    write_json(folder / "validated" / "classes.json", {"label": CLASSES} | OTHERS)
    return folder, manifest.assign(**more), vectors


def described(folder, out="head"):
    return json.loads((folder / out / "head.json").read_text("utf-8"))


@pytest.mark.parametrize("head", ["logistic", "mlp"])
def test_every_kind_gets_a_head_and_a_line_in_its_own_measure(kinds, caplog, head):
    folder, manifest, vectors = kinds
    with caplog.at_level("INFO", logger="graftline"):
        train(folder, head=head)
    heads, targets = load_heads(folder / "head")
    assert set(targets) == {"label", "marks", "grade", "angle"}
    is_unseen = ((manifest["split"] == "heldout") & manifest["angle"].notna()).to_numpy()
    for name, least in {"label": 0.9, "marks": 0.8, "grade": 0.7, "angle": 0.8}.items():
        target = targets[name]
        truths = target.encode(manifest[name][is_unseen])
        answers = target.answers(heads[name].logits(vectors[is_unseen]), temperature=heads[name].temperature)
        assert target.is_right(answers, truths).mean() > least
    for measure in ("label .* val accuracy", "marks .* val macro-F1", "grade .* val mean distance .* steps",
                    "angle .* val mean absolute error .* degrees"):  # fmt: skip
        assert re.search(f"trained the {head} head of {measure}", caplog.text)
    assert targets["angle"].interval is not None
    assert len(targets["marks"].thresholds) == 2
    assert described(folder)["val_loss"].keys() == {"angle"}


def test_centroids_of_a_number_are_refused(kinds):
    with pytest.raises(ValueError, match=r"^target angle: the head is centroid, which is for classes alone, and this"):
        train(kinds[0], head="centroid")


def test_too_few_numbers_on_val_for_the_interval_are_told(kinds, caplog):
    folder, _, _ = kinds
    write_json(folder / "validated" / "classes.json", {"label": CLASSES, "angle": DEGREES | {"level": 0.99}})
    train(folder)
    assert "target angle: val has 2" in caplog.text
    assert "expected at least 199 for an interval that holds 99 % of the truths" in caplog.text


def test_target_without_labels_changes_nothing_in_the_others(kinds, caplog):
    folder, manifest, _ = kinds
    train(folder)
    change(folder, manifest.assign(colour=None))
    classes = {"label": CLASSES, "colour": ["blue", "red"]} | OTHERS
    write_json(folder / "validated" / "classes.json", classes)
    train(folder, out="again")
    assert "target colour: no sample of train has a label, so it gets no head: label some" in caplog.text
    for file in ("head.safetensors", "head.json"):
        assert (folder / "head" / file).read_bytes() == (folder / "again" / file).read_bytes()


def test_targets_say_how_they_compare_with_sharing_and_one_alone_says_nothing(kinds):
    folder, _, _ = kinds
    train(folder)
    sharing = described(folder)["sharing"]
    assert set(sharing) == {"label", "marks", "grade", "angle"}
    assert sharing["grade"].keys() == {"alone", "together", "standard_error", "num_labels", "is_shared", "with"}
    assert sharing["grade"]["with"] == ["angle", "label", "marks"]
    train(folder, sharing="never", out="never")
    assert "sharing" not in described(folder, "never")
    write_json(folder / "validated" / "classes.json", {"label": CLASSES})
    train(folder, out="one")
    assert described(folder, "one").keys() == {"classes", "head", "l2", "num_layers", "temperature", "val_log_loss"}


def test_target_that_shares_learns_from_the_head_of_another(tmp_path, caplog):
    """One with few labels, of which another with many knows where to look."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(800, 64))
    scores = 3 * vectors[:, :3] @ generator.normal(size=(3, 6))
    splits = np.array((["train"] * 3 + ["val", "heldout"]) * 160)
    few = pd.Series([f"f{step}" for step in scores[:, :3].argmax(axis=1)])
    is_left_out = (splits != "heldout") & (np.arange(800) >= 150)
    manifest = pd.DataFrame({
        "batch": "a", "sample_id": [f"s{number:03d}" for number in range(800)], "split": splits,
        "few": few.mask(is_left_out, None), "many": [f"m{step}" for step in scores[:, 3:].argmax(axis=1)],
    })  # fmt: skip
    for place in ("validated/manifest", "embeddings"):
        (tmp_path / place).mkdir(parents=True)
    change(tmp_path, manifest)
    write_json(tmp_path / "validated" / "classes.json", {"few": ["f0", "f1", "f2"], "many": ["m0", "m1", "m2"]})
    write_embeddings(
        tmp_path / "embeddings" / "a.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="r"
    )
    (tmp_path / "batches.yaml").write_text("batches: [a]", "utf-8")
    write_leaks(tmp_path, [])

    def right(sharing):
        train(tmp_path, sharing=sharing, out=sharing)
        heads, targets = load_heads(tmp_path / sharing)
        is_heldout = splits == "heldout"
        truths = targets["few"].encode(few[is_heldout])
        return (heads["few"].logits(vectors[is_heldout]).argmax(axis=1) == truths).mean()

    with caplog.at_level("INFO", logger="graftline"):
        assert right("auto") > right("never") + 0.05
    assert described(tmp_path, "auto")["sharing"]["few"]["is_shared"]
    assert re.search(r"few with the heads of many: cross-validated loss .*, so it shares", caplog.text)
