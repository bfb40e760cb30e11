import os
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.data.samples.samples import Samples, sample_id
from tasks.data.store.segments import list_segments, segment_bytes
from tasks.data.store.store import list_recipes
from tasks.embedding.boundary import find_boundary, frozen_part
from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.images.augment import AugmentedViews
from tasks.images.decode import decode_sample
from tasks.images.options import Augmentation
from tasks.models.weights import load_backbone
from tasks.training.finetuning.activations import Activations, WholeSamples
from tasks.training.finetuning.options import ActivationOptions

NUM_TRAIN, NUM_VAL, NUM_VIEWS = 9, 4, 3
TRAIN, VAL = np.arange(NUM_TRAIN), np.arange(NUM_TRAIN, NUM_TRAIN + NUM_VAL)
EVERYTHING = 10**9  # bytes
MUCH = {"max_rotation_degrees": 30.0, "max_shift_fraction": 0.2, "max_scale_fraction": 0.3, "flip": True}


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)


def boundary_of(backbone, count=2):
    boundary = find_boundary(backbone, backbone.blocks()[::-1][:count])
    assert boundary is not None
    return boundary


@pytest.fixture(scope="module")
def cut(backbone):
    """The boundary before the last `count` blocks, and an embedder up to it."""

    @cache
    def build(count, precision):
        boundary = boundary_of(backbone, count)
        chosen = plan(replace(AUTO, device="cpu", precision=precision, minibatch_size=4))
        return boundary, Embedder(backbone, chosen, boundary=boundary)

    return build


@pytest.fixture
def rows(tmp_path, picture):
    """Rows of pictures in a batch, of some seeds."""

    def put(seeds):
        folder = tmp_path / "raw" / "batch"
        folder.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            picture(seed, width=32, height=32).save(folder / f"{seed}.png")
        paths = [f"{seed}.png" for seed in seeds]
        ids = [sample_id((folder / path).read_bytes()) for path in paths]
        return pd.DataFrame({"batch": "batch", "path": paths, "sample_id": ids})

    return put


@pytest.fixture
def open_activations(tmp_path, backbone, cut, rows):
    """A function that opens the activations of images; the first images are for training.

    `computed` is the number of views that went through the network.
    """

    def build(
        most_bytes=EVERYTHING,
        *,
        seeds=range(NUM_TRAIN + NUM_VAL),
        count=2,
        num_views=NUM_VIEWS,
        seed=0,
        precision="fp32",
        train=TRAIN,
        val=VAL,
        **limits,
    ):
        samples = Samples(rows(seeds), raw=tmp_path / "raw", decode=decode_sample)
        boundary, embedder = cut(count, precision)
        made = Activations(
            samples,
            embedder=embedder,
            boundary=boundary,
            backbone=backbone.fingerprint(),
            views=AugmentedViews(augmentation=Augmentation(**MUCH | limits), seed=seed),
            options=ActivationOptions(num_views=num_views, cache_gigabytes=most_bytes / 1e9),
            train=train,
            val=val,
            path=tmp_path / "store",
        )
        made.computed = 0
        compute = made.compute

        def counting(rows, view):
            made.computed += len(rows)
            return compute(rows, view)

        made.compute = counting
        return made

    return build


def read(source, rows, view, *, size=4):
    return torch.cat(list(source.minibatches(rows, view, size=size)))


def read_all(source, num_views=NUM_VIEWS):
    """Return what a training reads in one epoch per view, shuffled."""
    order = np.random.default_rng(0).permutation(TRAIN)
    return torch.cat([read(source, VAL, None), *(read(source, order, view) for view in range(num_views))])


def stored_bytes(path):
    return sum(segment_bytes(keys) for folder in list_recipes(path) for keys in list_segments(folder))


def test_activations_are_those_of_the_frozen_part(open_activations, backbone, rows, picture):
    source = open_activations()
    source.keep()
    transform = backbone.transform
    pixels = torch.stack([transform.prepare(picture(seed, width=32, height=32)) for seed in VAL])
    with torch.no_grad():
        expected = frozen_part(backbone, boundary_of(backbone))(transform.normalize(pixels))
    found = read(source, VAL, None)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(
    "precision",
    [
        "fp32",
        pytest.param(
            "bf16", marks=pytest.mark.skipif(plan().precision != "bf16", reason="slow without instructions for it")
        ),
    ],
)
def test_training_reads_the_same_to_the_bit_whatever_is_kept(open_activations, precision):
    """All of it, half, and nothing: what is not kept is computed each time."""
    whole = open_activations(precision=precision)
    assert whole.keep() == whole.num_wanted == NUM_VAL + NUM_VIEWS * NUM_TRAIN
    expected = read_all(whole)
    half = open_activations(whole.value_bytes * (NUM_VAL + NUM_TRAIN // 2), precision=precision)
    half.keep()
    nothing = open_activations(0, precision=precision)
    assert nothing.keep() == 0
    assert torch.equal(read_all(half), expected)
    assert torch.equal(read_all(nothing), expected)
    assert half.computed > half.num_kept
    assert nothing.computed == len(expected)


def test_minibatches_are_in_the_order_asked_and_of_the_size_asked(open_activations):
    source = open_activations()
    source.keep()
    spread = read(source, TRAIN, 1)
    order = np.array([5, 0, 8, 3, 3])
    parts = list(source.minibatches(order, 1, size=2))
    assert [len(each) for each in parts] == [2, 2, 1]
    assert torch.equal(torch.cat(parts), spread[order])


def test_trained_part_may_write_into_a_minibatch(open_activations):
    source = open_activations()
    source.keep()
    expected = read(source, VAL, None)
    next(iter(source.minibatches(VAL, None, size=4))).zero_()
    assert torch.equal(read(source, VAL, None), expected)


def test_second_run_computes_nothing(open_activations):
    open_activations().keep()
    again = open_activations()
    assert again.keep() == 0
    read_all(again)
    assert again.computed == 0


def test_new_sample_computes_its_own_views_only(open_activations):
    open_activations().keep()
    seeds = [*range(NUM_TRAIN), 50, *range(NUM_TRAIN, NUM_TRAIN + NUM_VAL)]
    more = open_activations(seeds=seeds, train=np.arange(NUM_TRAIN + 1), val=VAL + 1)
    assert more.keep() == more.computed == NUM_VIEWS


def test_more_views_compute_the_new_ones_only(open_activations):
    open_activations().keep()
    assert open_activations(num_views=NUM_VIEWS + 1).keep() == NUM_TRAIN


@pytest.mark.parametrize("change", [{"seed": 1}, {"flip": False}, {"max_rotation_degrees": 29.0}])
def test_other_views_are_computed_anew_and_the_plain_samples_are_not(open_activations, change):
    before = open_activations()
    before.keep()
    other = open_activations(**change)
    assert other.keep() == NUM_VIEWS * NUM_TRAIN
    assert not torch.equal(read(other, TRAIN, 0), read(before, TRAIN, 0))
    assert open_activations().keep() == 0


def test_another_boundary_computes_anew_and_the_old_activations_stay_for_a_return(open_activations):
    open_activations().keep()
    assert open_activations(count=1).keep() == NUM_VAL + NUM_VIEWS * NUM_TRAIN
    assert open_activations().keep() == 0


def test_views_of_a_sample_are_unlike_each_other_and_the_sample(open_activations):
    source = open_activations()
    source.keep()
    found = [read(source, TRAIN[:1], view) for view in (None, 0, 1, 2)]
    assert len({each.numpy().tobytes() for each in found}) == 4


def test_view_of_a_sample_does_not_depend_on_what_else_there_is(open_activations):
    one = open_activations(0)
    expected = read(one, TRAIN[[7]], 2)
    other = open_activations(0, seeds=[7, 60], train=np.array([0]), val=np.array([1]))
    assert torch.equal(read(other, np.array([0]), 2), expected)


# the budget


@pytest.mark.parametrize(
    ("values", "num_views"),
    [
        (1, 3), (NUM_VAL + 5, 3), (NUM_VAL + NUM_TRAIN, 1), (NUM_VAL + 2 * NUM_TRAIN - 1, 1),
        (NUM_VAL + 2 * NUM_TRAIN, 2), (NUM_VAL + 3 * NUM_TRAIN, 3), (NUM_VAL + 4 * NUM_TRAIN, 3),
    ],
)  # fmt: skip
def test_budget_for_a_view_costs_views_and_one_for_none_costs_time(open_activations, values, num_views):
    source = open_activations(values * open_activations().record_bytes)
    source.keep()
    assert source.num_views == num_views
    assert source.num_kept == min(values, NUM_VAL + num_views * NUM_TRAIN)
    assert source.num_missing() == 0


def test_what_does_not_fit_is_told_with_its_cost(open_activations):
    size = open_activations().record_bytes
    assert open_activations().shortfall(seconds_each=1.0) is None
    told = open_activations((NUM_VAL + 2 * NUM_TRAIN) * size).shortfall(seconds_each=1.0)
    assert told.endswith(": 2 of 3 views are made")
    told = open_activations((NUM_VAL + 5) * size).shortfall(seconds_each=10.0)
    assert told.endswith(": 7 of 13 values are computed anew in every epoch, about 70 s each time")
    told = open_activations(0).shortfall(seconds_each=None)
    assert told.endswith(": 13 of 13 values are computed anew in every epoch")


def test_values_too_large_to_keep_are_told_as_that_and_not_as_a_small_budget(open_activations, monkeypatch):
    monkeypatch.setattr("tasks.training.finetuning.activations.MOST_VALUE_BYTES", 10)
    told = open_activations().shortfall(seconds_each=None)
    assert told.endswith(" MB are kept: 13 of 13 values are computed anew in every epoch")
    assert "cache_gigabytes" not in told


def test_numbers_beyond_half_precision_stay_finite(open_activations, monkeypatch):
    source = open_activations()
    compute = source.embedder.compute
    monkeypatch.setattr(source.embedder, "compute", lambda pixels: compute(pixels) * 1e9)
    found = read(source, TRAIN, 0)
    assert found.isfinite().all()
    assert found.abs().max() == torch.finfo(torch.float16).max


def test_budget_below_one_sample_keeps_nothing_and_makes_no_store(open_activations, tmp_path):
    source = open_activations(100)
    assert source.keep() == 0
    assert source.num_views == NUM_VIEWS
    assert not (tmp_path / "store").exists()
    assert len(read_all(source)) == NUM_VAL + NUM_VIEWS * NUM_TRAIN


@pytest.mark.parametrize("values", [1, NUM_VAL + 3, NUM_VAL + NUM_TRAIN, NUM_VAL + 3 * NUM_TRAIN])
def test_store_never_exceeds_the_budget(open_activations, tmp_path, values):
    """Activations of another boundary, those of other views, and a budget one byte too small."""
    budget = open_activations().value_bytes * values
    for settings in ({}, {"seed": 1}, {"count": 1}, {"seed": 2, "count": 3}, {}):
        open_activations(budget, **settings).keep()
        assert stored_bytes(tmp_path / "store") <= budget


def test_what_was_used_least_recently_goes_first(open_activations, tmp_path):
    """Three boundaries of which two fit in."""
    old, older, new = (open_activations(count=count) for count in (1, 3, 2))
    for source, days in ((old, 10), (older, 20)):
        source.keep()
        ages(source, days)
    budget = (old.record_bytes + new.record_bytes) * new.num_wanted
    assert open_activations(budget, count=2).keep() == new.num_wanted
    assert stored_bytes(tmp_path / "store") == budget
    assert old.num_missing() == 0
    assert older.num_missing() == older.num_wanted


def ages(source, days):
    """Makes the segment that has a source's views look so many days old."""
    with source.store.reader(source.keys(TRAIN, 0)) as reader:
        for keys in reader._segments:
            then = keys.stat().st_mtime - days * 86400
            os.utime(keys, (then, then))


def test_what_is_needed_stays_though_it_was_not_used_for_long(open_activations, tmp_path):
    """Activations that another recipe used yesterday are removed first."""
    needed = open_activations()
    needed.keep()
    size = stored_bytes(tmp_path / "store")
    other = open_activations(count=1)
    other.keep()
    ages(needed, 30)
    ages(other, 1)
    assert open_activations(size + 1).keep() == 0
    assert stored_bytes(tmp_path / "store") == size


def test_room_is_made_only_where_it_is_needed(open_activations, tmp_path):
    open_activations().keep()
    open_activations(count=1).keep()
    size = stored_bytes(tmp_path / "store")
    assert open_activations(size).keep() == 0
    assert stored_bytes(tmp_path / "store") == size


# what goes wrong


def test_damaged_activation_is_named_with_the_remedy(open_activations):
    source = open_activations()
    source.keep()
    values = next(source.store.folder.glob("*.values"))
    content = bytearray(values.read_bytes())
    content[0] ^= 1
    values.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(values))} holds a value that does not match .*prune --store"
    ):
        read_all(source)


def test_missing_picture_is_named_and_what_was_computed_before_stays(open_activations, tmp_path):
    source = open_activations()
    (tmp_path / "raw/batch/5.png").unlink()
    with pytest.raises(ValueError, match=r"5\.png is missing"):
        source.keep()
    again = open_activations()
    assert 0 < again.keep() <= NUM_VAL + NUM_VIEWS * NUM_TRAIN - 4


def test_store_that_holds_other_files_is_refused(open_activations, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/photo.png").write_bytes(b"a picture")
    with pytest.raises(ValueError, match="holds other files and no embedding store"):
        open_activations()


# where nothing is frozen


@pytest.fixture
def pictures(tmp_path, backbone, rows):
    samples = Samples(rows(range(7)), raw=tmp_path / "raw", decode=decode_sample)
    return WholeSamples(
        samples, transform=backbone.transform, views=AugmentedViews(augmentation=Augmentation(**MUCH), seed=0)
    )


def test_pictures_are_normalised_in_the_order_asked(pictures, backbone, picture):
    order = np.array([4, 0, 6, 2, 1])
    parts = list(pictures.minibatches(order, None, size=2))
    assert [len(each) for each in parts] == [2, 2, 1]
    pixels = torch.stack([backbone.transform.prepare(picture(seed, width=32, height=32)) for seed in order])
    assert torch.equal(torch.cat(parts), backbone.transform.normalize(pixels))


def test_view_of_a_picture_does_not_depend_on_its_neighbours(pictures):
    whole = read(pictures, np.arange(7), 3, size=7)
    assert torch.equal(read(pictures, np.array([5, 2]), 3), whole[[5, 2]])
    assert not torch.equal(read(pictures, np.array([5, 2]), 4), whole[[5, 2]])
