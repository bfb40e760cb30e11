import io
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.data.samples.samples import sample_id
from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.embedding.engine import StoredView, embed, open_store
from tasks.images.copy_hash import HASHES_SHAPE, copy_hashes
from tasks.images.decode import decode_sample
from tasks.models.weights import load_backbone
from tests.kit.programs import SECONDS
from tests.kit.verbs import running_in_fork
from tests.kit.watching import until

ROOT = Path(__file__).parents[3]
GLYPHS = ROOT / "backbones/glyphs.safetensors"
SIZE = 4  # images of a minibatch


def load(**changes):
    """Load a trained backbone: with untrained weights half precision would round differences away."""
    choices = {"weights": str(GLYPHS), "features": ["stage2", "stage3", "stage4", "conv5"], "image_size": 32}
    return load_backbone("shufflenet_v2_x1_0", **choices | changes)


@pytest.fixture(scope="module")
def backbone():
    return load()


def png(image):
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


class Pictures:
    """Images of noise, one per seed. `decoded` lists the seeds whose images were decoded."""

    def __init__(self, picture, seeds):
        self.picture, self.seeds = picture, list(seeds)
        self.ids = [sample_id(str(seed).encode()) for seed in self.seeds]
        self.names = [f"{seed}.png" for seed in self.seeds]
        self.decoded = []

    def __call__(self, row):
        self.decoded.append(self.seeds[row])
        return png(self.picture(self.seeds[row]))


class Engine:
    """An embedder with a store. `num_passes` counts its forward passes; `spoil` may change their features."""

    def __init__(self, backbone, path, **choices):
        self.embedder = Embedder(backbone, plan(replace(AUTO, device="cpu", minibatch_size=SIZE, **choices)))
        self.network, self.embedder.network = self.embedder.network, self.forward
        self.num_passes = 0
        self.spoil = lambda features: features
        self.store = open_store(
            path, self.embedder, backbone=backbone.fingerprint(), decode=decode_sample, hash_of=copy_hashes,
            hashes_shape=HASHES_SHAPE,
        )  # fmt: skip

    def forward(self, images):
        self.num_passes += 1
        return self.spoil(self.network(images))

    def view(self, pictures):
        return StoredView(embedder=self.embedder, store=self.store, keys=pictures.ids)

    def embed(self, pictures, read=None):
        [count] = embed(read or pictures, [self.view(pictures)], names=pictures.names)
        return count

    def looks(self, pictures):
        return self.store.all_looks(pictures.ids)


@pytest.fixture
def engine(backbone, tmp_path):
    return Engine(backbone, tmp_path / "store")


def test_vectors_and_hashes_are_those_of_the_pictures(engine, backbone, picture):
    pictures = Pictures(picture, range(10))
    engine.embed(pictures)
    looks = engine.looks(pictures)
    assert np.abs(looks.vectors).mean() > 0.01
    pixels = torch.stack([backbone.transform.prepare(picture(seed)) for seed in range(10)])
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(pixels))
    assert torch.cosine_similarity(torch.from_numpy(looks.vectors).float(), expected, dim=1).min() >= 0.999
    assert all(np.array_equal(looks.hashes[seed], copy_hashes(picture(seed))) for seed in range(10))


def test_only_new_samples_are_decoded_and_run_through_the_backbone(engine, picture):
    assert engine.embed(Pictures(picture, range(10))) == 10
    assert engine.num_passes == 3
    more = Pictures(picture, range(13))
    assert engine.embed(more) == 3
    assert sorted(more.decoded) == [10, 11, 12]
    assert engine.num_passes == 4
    assert engine.embed(more) == 0
    assert engine.num_passes == 4


def test_vectors_are_the_same_to_the_bit_in_any_order_and_in_any_number_of_runs(backbone, picture, tmp_path):
    """Embed the samples at once, in another order, and in two runs."""
    pictures = Pictures(picture, range(11))
    one, other, third = (Engine(backbone, tmp_path / name) for name in ("one", "other", "third"))
    one.embed(pictures)
    other.embed(Pictures(picture, reversed(range(11))))
    third.embed(Pictures(picture, range(3, 8)))
    third.embed(pictures)
    expected = one.looks(pictures).pack()
    assert np.array_equal(other.looks(pictures).pack(), expected)
    assert np.array_equal(third.looks(pictures).pack(), expected)


def test_another_recipe_computes_anew_and_the_vectors_of_the_old_recipe_stay(backbone, picture, tmp_path):
    pictures, store = Pictures(picture, range(5)), tmp_path / "store"
    assert Engine(backbone, store).embed(pictures) == 5
    assert Engine(backbone, store, precision="fp32").embed(pictures) == (5 if plan().precision == "bf16" else 0)
    assert Engine(backbone, store, execution="eager").embed(pictures) == 5
    for changes in ({"features": ["stage2"]}, {"image_size": 40}, {"decode": "scaled"}):
        assert Engine(load(**changes), store).embed(pictures) == 5
    assert Engine(load(weights="random"), store).embed(pictures) == 5
    assert Engine(load(), store).embed(pictures) == 0


def test_sample_whose_vector_is_not_finite_is_named_and_the_others_are_kept(engine, picture):
    engine.spoil = lambda features: features.index_fill(0, torch.tensor([1]), torch.nan)
    with pytest.raises(ValueError, match=r"the embedding of 1\.png has numbers that are not finite in float16"):
        engine.embed(Pictures(picture, range(SIZE)))
    engine.spoil = lambda features: features
    assert engine.embed(Pictures(picture, range(8))) == 8 - (SIZE - 1)


def test_number_that_half_precision_cannot_hold_is_refused(engine, picture):
    engine.spoil = lambda features: torch.full_like(features, 70_000)
    with pytest.raises(ValueError, match=r"0\.png has numbers that are not finite in float16"):
        engine.embed(Pictures(picture, range(2)))


def test_vectors_computed_before_a_sample_vanished_stay(engine, picture):
    pictures = Pictures(picture, range(40))

    def vanishing(row):
        if row == 39:
            raise ValueError("sample 39.png is missing")
        return png(picture(row))

    with pytest.raises(ValueError, match=r"39\.png is missing"):
        engine.embed(pictures, vanishing)
    assert engine.embed(pictures) == SIZE


@pytest.mark.parametrize("decode", [partial(decode_sample, shorter_side=8), lambda content, *, shorter_side: None])
def test_decoder_of_which_the_recipe_would_miss_a_part_is_refused(engine, backbone, tmp_path, decode):
    with pytest.raises(AssertionError):
        open_store(
            tmp_path / "other", engine.embedder, backbone=backbone.fingerprint(), decode=decode,
            hash_of=copy_hashes, hashes_shape=HASHES_SHAPE,
        )  # fmt: skip


@pytest.fixture
def other_run(backbone, picture, tmp_path):
    """A function that starts another process, which embeds images 0 to 399 into the same store.

    Its argument is the time per image in seconds.
    """

    def start(seconds):
        pictures = Pictures(picture, range(400))

        def read_slowly(row):
            time.sleep(seconds)
            return pictures(row)

        return running_in_fork(lambda: Engine(backbone, tmp_path / "store").embed(pictures, read_slowly))

    return start


@pytest.fixture(scope="module")
def undisturbed(backbone, picture, tmp_path_factory):
    """Return the packed looks of images 0 to 399 from a run with a store of its own."""
    alone = Engine(backbone, tmp_path_factory.mktemp("undisturbed"))
    alone.embed(Pictures(picture, range(400)))
    return alone.looks(Pictures(picture, range(400))).pack()


def num_stored(engine):
    """The bytes of all keys that were flushed."""
    return sum(keys.stat().st_size for keys in engine.store.folder.glob("*.keys"))


def test_killed_run_loses_its_last_seconds_and_no_bit(engine, picture, other_run, undisturbed):
    """Another process is killed in the middle of its work. This one continues, and the vectors are the same."""
    with other_run(0.03) as run:
        once = until(lambda: num_stored(engine))
        until(lambda: num_stored(engine) > once)  # flushed twice
        run.kill()
        run.join(SECONDS)
        assert run.exitcode == -signal.SIGKILL
    pictures = Pictures(picture, range(400))
    assert 0 < engine.embed(pictures) < 400
    assert np.array_equal(engine.looks(pictures).pack(), undisturbed)


def test_two_runs_may_share_a_store_at_once(engine, picture, other_run, undisturbed):
    with other_run(0.002) as run:
        pictures = Pictures(picture, range(400))
        engine.embed(pictures)
        run.join(SECONDS)
        assert run.exitcode == 0
    assert engine.embed(pictures) == 0
    assert np.array_equal(engine.looks(pictures).pack(), undisturbed)
