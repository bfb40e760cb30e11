"""When a training goes on from the model in use, what it learns from, and with which weights it begins."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.stage.params import load_params
from tasks.targets.number import Number
from tasks.training.finetuning.warm_start import (
    LEAST_LABELS,
    Start,
    choose_start,
    digest_of_data,
    groups_of,
    replay,
    warm_options,
    weights_of,
)
from tests.kit.chain import ROOT

OPTIONS = replace(load_params(ROOT / "params.yaml").finetune, start="in_use", backbone_every=5)
CLASSES = {"label": ["cat", "dog"]}


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)


def manifest(batches):
    """Return a row a sample: batches by name, each a text of c and d for cat and dog; every fifth sample is val."""
    rows = [
        {
            "batch": batch, "path": f"{number}.png", "sample_id": f"{batch} {number}",
            "label": {"c": "cat", "d": "dog"}[letter], "split": "val" if number % 5 == 4 else "train",
        }
        for batch, letters in batches.items()
        for number, letter in enumerate(letters)
    ]  # fmt: skip
    return pd.DataFrame(rows)


OLD, NEW = {"one": "cd" * 50, "two": "cccd" * 10}, {"three": "c" * 20}


class Case:
    """A model in use that knows OLD, and the data of OLD and NEW; `changes` are made to its lineage."""

    def __init__(self, backbone, *, rows=None, before="b" * 64, targets=CLASSES, **changes):
        self.rows = manifest(OLD | NEW) if rows is None else rows
        self.facts = {"backbone": "b" * 64, "params": {"unfreeze": 4, "start": "in_use"}, "seed": 0}
        self.lineage = self.facts | {"backbone": before, "data": digest_of_data(manifest(OLD))} | changes
        self.model = Classifier(backbone, targets)
        self.grafted = Classifier(backbone, CLASSES)

    def start(self):
        earlier = (self.rows[self.rows["batch"].isin(names)] for names in (["one", "two"], ["one"]))
        return choose_start(
            (self.model, self.lineage), self.rows, earlier=earlier, facts=self.facts, grafted=self.grafted,
            options=OPTIONS,
        )  # fmt: skip

    def of(self, positions):
        return self.rows.iloc[positions]


def test_new_samples_of_train_are_learned_with_three_old_ones_each(backbone):
    case = Case(backbone)
    start = case.start()
    assert start.reason is None
    assert set(case.of(start.new)["batch"]) == {"three"}
    assert (len(start.new), len(start.replayed)) == (16, 48)
    old = case.of(start.replayed)
    assert set(old["split"]) == {"train"}
    assert "three" not in set(old["batch"])
    kept = case.rows[start.kept(case.rows["split"])]
    assert Counter(kept["split"]) == {"train": 64, "val": (case.rows["split"] == "val").sum()}


def test_new_and_old_samples_together_are_balanced_as_all_of_train_is(backbone):
    """All 16 new ones are cats; of all of train 61 % are."""
    case = Case(backbone)
    start = case.start()
    learned = case.of(np.concatenate([start.new, start.replayed]))["label"]
    of_train = case.rows.loc[case.rows["split"] == "train", "label"]
    assert (learned == "cat").mean() == pytest.approx((of_train == "cat").mean(), abs=0.02)


def test_samples_alone_decide_which_old_ones_come_back_and_another_seed_brings_others(backbone):
    shuffled = manifest(OLD | NEW).sample(frac=1, random_state=0).reset_index(drop=True)
    cases = Case(backbone), Case(backbone, rows=shuffled), Case(backbone)
    cases[2].facts["seed"] = 1
    first, same, other = ({*case.of(case.start().replayed)["sample_id"]} for case in cases)
    assert first == same != other


def test_without_a_new_sample_nothing_is_trained(backbone):
    start = Case(backbone, rows=manifest(OLD)).start()
    assert (len(start.new), len(start.replayed)) == (0, LEAST_LABELS)
    assert warm_options(OPTIONS, start).epochs == 0


def test_model_that_missed_several_batches_learns_them_all(backbone):
    case = Case(backbone, data=digest_of_data(manifest({"one": OLD["one"]})))
    assert set(case.of(case.start().new)["batch"]) == {"two", "three"}


def moved(rows, column, value):
    return rows.assign(**{column: rows[column].where(rows["sample_id"] != "one 0", value)})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"before": "c" * 64}, "another backbone"),
        ({"params": {"unfreeze": 3, "start": "in_use"}}, "finetune.unfreeze has changed"),
        ({"params": {"unfreeze": 4, "minibatch_size": 8}}, "finetune.minibatch_size has changed"),
        ({"targets": {"label": ["cat", "dog", "owl"]}}, "other targets or classes"),
        ({"start": {"warm_runs": 4}}, r"the turn of finetune.backbone_every \(5\)"),
        # after runs on two batches whose candidates were not promoted
        ({"start": {"warm_runs": 3}, "data": digest_of_data(manifest({"one": OLD["one"]}))}, "the turn of finetune"),
        ({"data": None}, "have changed"),
        ({"rows": moved(manifest(OLD | NEW), "label", "dog")}, "have changed"),
        ({"rows": moved(manifest(OLD | NEW), "split", "val")}, "have changed"),
        ({"rows": manifest(OLD | NEW).iloc[1:]}, "have changed"),  # it left training as like a held-out sample
        ({"rows": manifest(OLD | {"three": "c" * 500})}, "400 of 512 samples of train are new"),
    ],
)
def test_what_is_another_training_starts_from_the_backbone_with_its_reason(backbone, changes, reason):
    start = Case(backbone, **changes).start()
    assert start.model is None
    assert re.search(reason, start.reason)


def test_model_in_use_that_was_trained_before_the_setting_goes_on(backbone):
    assert Case(backbone, params={"unfreeze": 4}).start().model is not None


def test_replay_takes_what_is_there_of_a_rare_class():
    strata = np.array([0] * 90 + [1] * 4 + [1] * 6)
    order, new = np.arange(94), np.arange(94, 100)  # all new ones are of class 1
    taken = Counter(strata[replay(order, strata, new=new, num=18)].tolist())
    assert taken == {0: 18}
    assert len(replay(order, strata, new=new, num=500)) == 94


@pytest.mark.parametrize(("num_new", "epochs"), [(0, 0), (1, 3), (20, 5), (500, 5), (5000, 3)])
def test_number_of_new_samples_gives_the_steps(num_new, epochs):
    start = Start(new=np.arange(num_new), replayed=np.arange(3 * num_new))
    options = warm_options(replace(OPTIONS, gradual=True), start)
    assert options.epochs == epochs
    assert not options.gradual
    assert options.head_learning_rate < OPTIONS.head_learning_rate
    assert options.num_views <= OPTIONS.num_views
    assert warm_options(replace(OPTIONS, epochs=1), start).epochs == min(epochs, 1)


# the weights


def test_trunks_of_the_model_in_use_are_trained_on_each_for_its_targets(backbone):
    targets = {name: ["a", "b"] for name in ("x", "y", "z")}
    torch.manual_seed(1)
    other = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
    in_use = Classifier(backbone, targets, trunks=[other], trunk_of={"x": 1, "z": 1})
    assert groups_of(in_use, ["x", "y", "z"]) == [("y",), ("x", "z")]
    assert groups_of(in_use, ["x", "y"]) == [("y",), ("x",)]
    part = Classifier(backbone, targets).part(["x", "z"])
    weights = weights_of(in_use, part)
    assert torch.equal(weights["backbone.network.conv1.0.weight"], other.network.conv1[0].weight)
    assert torch.equal(weights["heads.1.weight"], in_use.heads[2].weight)
    assert set(weights) == set(part.state_dict())


@pytest.mark.parametrize("hidden", [None, 8])
def test_head_of_a_number_says_the_same_number_on_the_scale_of_now(backbone, hidden):
    before, now = Number(measure="m", centre=10.0, scale=2.0), Number(measure="m", centre=100.0, scale=7.0)
    in_use, part = (Classifier(backbone, {"x": own}, hidden_features=hidden) for own in (before, now))
    part.load_state_dict(weights_of(in_use, part))
    features = torch.randn(5, backbone.dim)
    said = [own.values(model.heads[0](features).detach().numpy()) for own, model in ((before, in_use), (now, part))]
    np.testing.assert_allclose(*said, rtol=1e-5)
