"""Texts in the engine: what the store keeps is what each text has alone, and only new texts are computed."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from tasks.data.samples.text_cells import canonical
from tasks.embedding.embedder import AUTO
from tasks.embedding.engine import StoredView, embed, open_store
from tasks.embedding.ready import make_ready
from tasks.machine import sources
from tasks.text.copy_hash import HASHES_SHAPE, copy_hashes
from tasks.text.decode import decode_sample
from tests.tasks.models.test_encoder import TEXTS, encoder

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")


class Engine:
    def __init__(self, path, *, precision="fp32"):
        backbone = encoder("bert")
        self.embedder = make_ready(backbone, replace(AUTO, device="cpu", precision=precision))
        self.store = open_store(
            path, self.embedder, backbone=backbone.fingerprint(), decode=decode_sample, hash_of=copy_hashes,
            hashes_shape=HASHES_SHAPE,
        )  # fmt: skip

    def embed(self, texts):
        contents = [canonical([text]) for text in texts]
        keys = [sha256(content).hexdigest() for content in contents]
        [count] = embed(
            contents.__getitem__, [StoredView(embedder=self.embedder, store=self.store, keys=keys)], names=texts
        )
        return count, self.store.all_looks(keys)


def test_new_texts_alone_are_computed_and_no_vector_depends_on_another(tmp_path):
    engine = Engine(tmp_path / "store")
    count, first = engine.embed(TEXTS[:2])
    assert count == 2
    count, looks = engine.embed(TEXTS)
    assert count == len(TEXTS) - 2
    np.testing.assert_array_equal(looks.vectors[:2], first.vectors)
    for number, text in enumerate(TEXTS):
        _, alone = Engine(tmp_path / f"alone{number}").embed([text])
        np.testing.assert_array_equal(alone.vectors[0], looks.vectors[number])
        np.testing.assert_array_equal(alone.hashes[0], looks.hashes[number])


def test_code_that_tokenises_and_packs_is_part_of_the_recipe(tmp_path, monkeypatch):
    modules = []
    monkeypatch.setattr(sources, "digest", lambda *names: modules.extend(names) or "a digest")
    Engine(tmp_path)
    parts = {"tasks/text/transform.py", "tasks/embedding/packing.py", "tasks/models/encoder.py"}
    assert parts <= set(sources.reached(*modules))


def test_marks_of_texts_are_kept_with_their_vectors(tmp_path):
    engine = Engine(tmp_path / "store")
    texts = ["a b c", "a zyx", "a " * 50]
    _, looks = engine.embed(texts)
    assert looks.marks.tolist() == [[0, 0], [0, 128], [1, 0]]
    keys = [sha256(canonical([text])).hexdigest() for text in texts]
    assert engine.store.all_marks(keys).tolist() == looks.marks.tolist()
    assert engine.store.all_marks([]).shape == (0, 2)


def test_other_precision_is_another_recipe(tmp_path):
    Engine(tmp_path).embed(TEXTS)
    assert Engine(tmp_path, precision="bf16").embed(TEXTS)[0] == len(TEXTS)
