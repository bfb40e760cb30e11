"""The benchmark of transfer: its draws are fair, and its numbers are right."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.kit import transfer_page
from benchmarks.kit.labelled import HELDOUT, POOL, Labelled, Network
from benchmarks.kit.methods import Draw, Recipe, Task, Views
from benchmarks.kit.summary import mean_and_half_width
from benchmarks.transfer import time_fraction
from tasks.models.classifier import Classifier
from tasks.stage.params import load_params

ROOT = Path(__file__).parent.parent.parent
NETWORK = Network(architecture="squeezenet1_1", weights="random", features="penultimate", image_size=32)


@pytest.fixture
def labelled():
    """Return two classes of 100 images each; a fifth is held out."""
    n = 200
    return Labelled(
        network=NETWORK,
        classes=["a", "b"],
        pixels=np.zeros((n, 3, 32, 32), dtype=np.uint8),
        labels=np.arange(n) % 2,
        sides=np.where(np.arange(n) < 40, HELDOUT, POOL),
    )


@pytest.mark.parametrize(("fraction", "train", "val"), [(0.01, 1, 1), (0.05, 3, 1), (0.2, 13, 3), (1.0, 64, 16)])
def test_a_draw_has_its_share_of_each_class_and_a_fifth_of_it_is_val(labelled, fraction, train, val):
    draw = Draw.of(labelled, fraction, seed=0)
    assert np.bincount(labelled.labels[draw.train]).tolist() == [train, train]
    assert np.bincount(labelled.labels[draw.val]).tolist() == [val, val]


def test_no_held_out_image_is_drawn_and_none_twice(labelled):
    draw = Draw.of(labelled, 1.0, seed=0)
    rows = np.concatenate([draw.train, draw.val])
    assert len(set(rows.tolist())) == len(rows) == 160
    assert (labelled.sides[rows] == POOL).all()


def test_another_seed_draws_other_labels(labelled):
    first, second = (Draw.of(labelled, 0.2, seed=seed).train for seed in (0, 1))
    assert set(first.tolist()) != set(second.tolist())


def test_saved_images_come_back_unchanged(labelled, tmp_path):
    labelled.save(tmp_path / "set")
    opened = Labelled.open(tmp_path / "set")
    assert opened.network == NETWORK
    assert opened.classes == ["a", "b"]
    for name in ("pixels", "labels", "sides"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(labelled, name))


def test_the_interval_of_three_seeds_is_that_of_the_t_distribution():
    mean, half_width = mean_and_half_width([0.7, 0.8, 0.9])
    assert mean == pytest.approx(0.8)
    assert half_width == pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-5)


def test_the_time_to_the_accuracy_of_scratch_is_that_of_the_cheapest_method_that_reaches_it():
    def row(method, fraction, accuracy, seconds):
        return {"method": method, "fraction": fraction, "accuracy": accuracy, "processor_seconds": seconds}

    rows = [
        row("scratch", 0.2, 0.5, 20),
        row("scratch", 1.0, 0.8, 100),
        row("head", 1.0, 0.79, 1),
        row("finetune", 0.2, 0.8, 15),
        row("finetune", 1.0, 0.9, 60),
    ]
    assert time_fraction(rows) == pytest.approx(0.15)
    assert time_fraction(rows[:3]) == math.inf


def test_the_page_without_a_place_for_the_table_is_refused():
    with pytest.raises(ValueError, match="marks"):
        transfer_page.replaced("no marks", "transfer", "table")


def test_the_plot_is_the_same_for_the_same_results():
    rows = [
        {"data": "digits", "method": method, "fraction": fraction, "accuracy": 0.9, "accuracy_half_width": 0.01}
        for method in ("head", "scratch")
        for fraction in (0.01, 1.0)
    ]
    assert transfer_page.plot(rows) == transfer_page.plot(json.loads(json.dumps(rows)))
    assert transfer_page.plot(rows).count("<polyline") == 2


def test_training_images_are_normalised_as_the_model_expects_them(labelled):
    params = load_params(ROOT / "params.yaml")
    recipe = Recipe(head=params.train_head, training=params.finetune, min_steps=0)
    task = Task(labelled=labelled, draw=Draw.of(labelled, 1.0, seed=0), recipe=recipe, seed=0)
    backbone = NETWORK.load()
    backbone.transform = replace(backbone.transform, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    [images] = Views(Classifier(backbone, {"label": ["a", "b"]}), task).minibatches(np.arange(2), None, size=2)
    assert images.shape == (2, 3, 32, 32)
    assert torch.equal(images, torch.full_like(images, -2.0))  # black


def test_few_labels_get_smaller_minibatches_and_more_epochs(labelled):
    params = load_params(ROOT / "params.yaml")
    training = replace(params.finetune, epochs=3)
    recipe = Recipe(head=params.train_head, training=training, min_steps=50)
    few, all_ = (
        Task(labelled=labelled, draw=Draw.of(labelled, fraction, seed=0), recipe=recipe, seed=0).options
        for fraction in (0.05, 1.0)
    )
    assert (few.minibatch_size, few.epochs) == (8, 50)
    assert (all_.minibatch_size, all_.epochs) == (32, 13)
