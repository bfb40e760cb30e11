import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tasks.audit import run
from tasks.data.health.hashes import Probes, write_hashes
from tasks.data.health.leaks import LEAKED, LEAKS, read_leaks
from tasks.data.health.suspects import read_suspects
from tasks.data.manifest.tables import write_table
from tasks.data.vectors.embeddings import write_embeddings
from tasks.images.copy_hash import HASHES_SHAPE
from tasks.machine.files import write_json
from tasks.stage.params import AuditParams

PARAMS = AuditParams(
    recall=0.99, max_false_alarms=0.001, max_cut=0.1, max_unknown=0.05, max_suspects=1000, significance=0.01,
    min_drift=0.33, min_new=0.1,
)  # fmt: skip
PER_BATCH = 100  # samples: 60 train, 15 val, 25 held out


class Data:
    """Batches of made-up samples in a folder; `copy` makes one sample look like another."""

    def __init__(self, folder, batches):
        generator = np.random.default_rng(0)
        self.folder, self.names = folder, batches
        n = PER_BATCH * len(batches)
        self.vectors = generator.normal(size=(n, 16))
        self.hashes = generator.integers(0, 256, (n, *HASHES_SHAPE), dtype=np.uint8)
        self.splits = np.array((["train"] * 60 + ["val"] * 15 + ["heldout"] * 25) * len(batches))
        self.num_probed = 8
        self.labels = np.full(len(self.splits), "any", dtype=object)
        self.classes = {}  # none that has to be in every split
        self.reach = 20  # bits, how far the copies of the probes are

    def copy(self, source, to):
        self.vectors[to] = self.vectors[source]
        self.hashes[to] = self.hashes[source]

    def name(self, number):
        return self.names[number // PER_BATCH], f"{number % PER_BATCH:03d}.png"

    def audit(self, out="audit", params=PARAMS, scratch="scratch"):
        for place in ("validated/manifest", "embeddings", "hashes"):
            (self.folder / place).mkdir(parents=True, exist_ok=True)
        for position, batch in enumerate(self.names):
            rows = np.arange(position * PER_BATCH, (position + 1) * PER_BATCH)
            manifest = pd.DataFrame(
                {
                    "batch": batch,
                    "path": [self.name(row)[1] for row in rows],
                    "sample_id": [f"id{row:04d}" for row in rows],
                    "split": self.splits[rows],
                    "label": self.labels[rows],
                }
            )
            write_table(self.folder / "validated" / "manifest" / f"{batch}.parquet", manifest)
            write_embeddings(
                self.folder / "embeddings" / f"{batch}.safetensors",
                [self.vectors[rows].astype(np.float16)],
                shape=self.vectors[rows].shape,
                recipe="r",
            )
            num_probed = self.num_probed[batch] if isinstance(self.num_probed, dict) else self.num_probed
            probes = Probes(
                kinds=("flipped",),
                cosines=np.full((num_probed, 1), 0.9, dtype=np.float32),
                distances=np.full((num_probed, 1), self.reach, dtype=np.uint16),
            )
            write_hashes(
                self.folder / "hashes" / f"{batch}.safetensors",
                [self.hashes[rows]],
                shape=self.hashes[rows].shape,
                probes=probes,
            )
        write_json(self.folder / "classes.json", self.classes)
        (self.folder / "batches.yaml").write_text(f"batches: {json.dumps(self.names)}", "utf-8")
        run(
            modality="images",
            manifests=self.folder / "validated" / "manifest",
            classes=self.folder / "classes.json",
            embeddings=self.folder / "embeddings",
            hashes=self.folder / "hashes",
            batches=self.folder / "batches.yaml",
            scratch=self.folder / scratch,
            out=self.folder / out,
            health=self.folder / "health",
            audit=params,
            seed=0,
        )
        found = json.loads((self.folder / out / "audit.json").read_text("utf-8"))
        return read_leaks(self.folder / out / LEAKS), read_leaks(self.folder / out / LEAKED), found


@pytest.fixture
def data(tmp_path):
    return lambda batches=("a", "b"): Data(tmp_path, list(batches))


def test_copies_of_held_out_samples_leave_train_and_val_and_name_their_twin(data):
    given = data()
    given.copy(80, 3)  # train
    given.copy(180, 62)  # val; its twin came with a later batch
    leaks, leaked, found = given.audit()
    assert leaks[["batch", "path", "split", "twin_batch", "twin_path"]].to_numpy().tolist() == [
        ["a", "003.png", "train", "a", "080.png"],
        ["a", "062.png", "val", "b", "080.png"],
    ]
    assert leaks["sample_id"].tolist() == ["id0003", "id0062"]
    assert leaks["twin_sample_id"].tolist() == ["id0080", "id0180"]
    assert leaked["sample_id"].tolist() == ["id0080", "id0180"]
    assert found["batches"] == {
        "a": {"train": 1, "val": 1, "heldout": 1},
        "b": {"train": 0, "val": 0, "heldout": 1},
    }


def test_pool_neither_leaks_nor_moves_the_limits(data):
    """A pool among the samples finds what is found without it."""
    given, alone = data(), data(("a",))
    given.copy(80, 3)
    alone.vectors, alone.hashes = given.vectors[:100].copy(), given.hashes[:100].copy()
    expected = alone.audit()
    given.splits[100:] = "pool"
    given.vectors[100:], given.hashes[100:] = given.vectors[80], given.hashes[80]
    given.num_probed = {"a": 8, "b": 0}
    leaks, leaked, found = given.audit()
    assert leaks.equals(expected[0])
    assert leaked.equals(expected[1])
    assert found["limits"] == expected[2]["limits"]


def test_held_out_sample_never_leaves(data):
    given = data()
    for number in range(75, 100):
        given.copy(number, number - 75)
    leaks, leaked, _ = given.audit()
    assert set(leaks["split"]) == {"train"}
    assert len(leaks) == 25
    assert set(leaked["split"]) == {"heldout"}


def test_copies_on_the_same_side_are_no_leaks(data):
    given = data()
    given.copy(0, 1)
    given.copy(2, 61)
    given.copy(80, 81)
    leaks, leaked, _ = given.audit()
    assert leaks.empty
    assert leaked.empty


def test_every_held_out_twin_of_one_sample_is_leaked(data):
    given = data()
    for number in (80, 81, 190):
        given.copy(0, number)
    leaks, leaked, _ = given.audit()
    assert leaks["sample_id"].tolist() == ["id0000"]
    assert leaked["sample_id"].tolist() == ["id0080", "id0081", "id0190"]


def test_like_vectors_with_unlike_hashes_are_no_leak(data):
    given = data()
    given.vectors[0] = given.vectors[80]
    assert given.audit()[0].empty


def test_data_on_which_copies_are_no_nearer_than_strangers_is_said_to_be_so(data):
    given = data()
    given.copy(80, 0)
    given.reach = 120
    leaks, _, found = given.audit()
    assert leaks["sample_id"].tolist() == ["id0000"]
    assert found["limits"]["separates"] is False
    assert found["limits"]["expected_recall"] == 0.0
    assert found["limits"]["expected_false_alarms"] < 1


def test_data_that_separates_is_said_to_be_so(data):
    _, _, found = data().audit()
    assert found["limits"]["separates"] is True
    assert found["limits"]["expected_recall"] == 1.0
    assert found["limits"]["max_hash_distance"] == 20


def test_one_batch_is_enough(data):
    given = data(["only"])
    given.copy(80, 0)
    assert len(given.audit()[0]) == 1


def test_nothing_held_out_is_nothing_leaked(data):
    given = data()
    given.splits[:] = "train"
    leaks, leaked, found = given.audit()
    assert leaks.empty
    assert leaked.empty
    assert found["limits"]["expected_false_alarms"] is None


def test_nothing_but_held_out_samples_is_nothing_leaked(data):
    given = data()
    given.splits[:] = "heldout"
    given.num_probed = 0
    leaks, leaked, _ = given.audit()
    assert leaks.empty
    assert leaked.empty


def test_class_that_leaked_as_a_whole_is_refused(data):
    given = data()
    given.labels[60:75] = "bird"
    given.labels[[0, 80]] = "bird"
    given.classes = {"label": ["any", "bird"]}
    for number in (0, *range(60, 75)):
        given.copy(80, number)
    with pytest.raises(
        ValueError,
        match=r"near-duplicates of held-out samples, class 'bird' of label has 0 train, .*: add other samples",
    ):
        given.audit()


def test_same_input_gives_the_same_bytes(data, tmp_path):
    given = data()
    given.copy(80, 0)
    given.audit()
    given.audit(out="again")
    for file in (LEAKS, LEAKED, "audit.json"):
        assert (tmp_path / "audit" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_batch_that_lands_or_changes_later_gives_the_bytes_of_an_audit_that_kept_nothing(data, tmp_path):
    given = data()
    given.copy(80, 0)
    given.names = ["a"]
    given.audit()
    given.names = ["a", "b"]
    given.copy(180, 62)
    for change in (lambda: None, lambda: given.copy(90, 110), lambda: given.splits.__setitem__(180, "train")):
        change()
        given.audit(out="warm")
        leaks, leaked, _ = given.audit(out="cold", scratch="none")
        assert len(leaks)
        assert len(leaked)
        for file in (LEAKS, LEAKED, "audit.json"):
            assert (tmp_path / "warm" / file).read_bytes() == (tmp_path / "cold" / file).read_bytes()
        shutil.rmtree(tmp_path / "none")


def test_missing_hashes_are_named_with_the_remedy(data, tmp_path):
    data().audit()
    (tmp_path / "hashes" / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b\.safetensors is missing, though batch b is listed: run `dvc pull"):
        run(
            modality="images",
            manifests=tmp_path / "validated" / "manifest",
            classes=tmp_path / "classes.json",
            embeddings=tmp_path / "embeddings",
            hashes=tmp_path / "hashes",
            batches=tmp_path / "batches.yaml",
            scratch=tmp_path / "scratch",
            out=tmp_path / "audit",
            health=tmp_path / "health",
            audit=PARAMS,
            seed=0,
        )


def labelled(given):
    """Give the samples of `given` three classes that their vectors tell apart."""
    generator = np.random.default_rng(1)
    places = generator.integers(0, 3, len(given.vectors))
    given.vectors = given.vectors * 0.3 + 5 + 6 * np.eye(16)[places]
    given.labels = np.array(["cat", "dog", "owl"], dtype=object)[places]
    given.classes = {"label": ["cat", "dog", "owl"]}


def suspects(given, *kinds):
    table = read_suspects(given.folder / "health").set_index("sample_id")
    return table[table["kind"].isin(kinds)] if kinds else table


def health(given):
    return json.loads((given.folder / "health/health.json").read_text("utf-8"))


def test_wrong_labels_are_listed_with_the_class_that_they_look_like(data):
    given = data()
    labelled(given)
    truths = given.labels.copy()
    wrong = [1, 7, 80, 121]  # the third is held out
    given.labels[wrong] = np.where(truths[wrong] == "cat", "dog", "cat")
    leaks, _, _ = given.audit()
    table = suspects(given, "label_error")
    assert sorted(table.index) == [f"id{row:04d}" for row in wrong]
    assert table.loc["id0001", "suggested"] == truths[1]
    assert table.loc["id0001", "label"] == given.labels[1]
    assert f"labelled {given.labels[1]}, looks like {truths[1]}" in table.loc["id0001", "detail"]
    assert leaks.empty


def test_labels_of_held_out_samples_change_no_other_suspicion(data):
    given = data()
    labelled(given)
    given.audit()
    before = suspects(given)
    heldout = given.splits == "heldout"
    given.labels[heldout] = np.random.default_rng(2).permutation(given.labels[heldout])
    given.audit()
    after = suspects(given)
    used = [f"id{row:04d}" for row in np.flatnonzero(~heldout)]
    assert before[before.index.isin(used)].equals(after[after.index.isin(used)])


def test_outlier_is_listed_and_one_in_the_pool_is_called_unlike(data):
    given = data()
    labelled(given)
    given.splits[150] = "pool"
    given.vectors[[5, 150]] = -20
    given.vectors[[5, 150], :2] = 60
    given.audit()
    assert suspects(given, "outlier").index.tolist() == ["id0005"]
    assert suspects(given, "unlike").index.tolist() == ["id0150"]


def test_each_new_batch_is_compared_with_those_before_it_in_words(data):
    given = data(("a", "b", "c"))
    labelled(given)
    given.vectors[200:, 3] += 4
    given.audit()
    batches = health(given)["batches"]
    assert batches["a"]["drift"] is None
    assert not batches["b"]["drift"]["is_different"]
    assert "looks like the 100 samples before it" in batches["b"]["drift"]["text"]
    assert batches["c"]["drift"]["is_different"]
    assert "differs from the 200 samples before it" in batches["c"]["drift"]["text"]
    assert batches["c"]["num_samples"] == 100


def test_no_more_suspects_of_a_kind_are_listed_than_asked_for_and_all_are_counted(data):
    given = data()
    labelled(given)
    given.labels[[1, 7, 11]] = np.where(given.labels[[1, 7, 11]] == "cat", "dog", "cat")
    given.audit(params=replace(PARAMS, max_suspects=2))
    assert len(suspects(given, "label_error")) == 2
    assert health(given)["num_suspects"]["label_error"] == 3


def test_target_with_few_labels_is_passed_over(data):
    given = data(("a",))
    labelled(given)
    given.labels[:40] = None  # 35 labels of train and val are left
    given.labels[50] = "cat" if given.labels[50] == "dog" else "dog"
    given.audit()
    assert suspects(given, "label_error").empty
