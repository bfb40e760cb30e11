"""Several targets are fine-tuned together and apart; each takes what answers it best on val."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tasks.data.samples.samples import Samples, sample_id
from tasks.images.augment import AugmentedViews
from tasks.images.decode import decode_sample
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.prediction.answers import Answerer
from tasks.stage.params import load_params
from tasks.targets.classes import Classes
from tasks.targets.head import Factors
from tasks.targets.number import Number
from tasks.training.finetuning.checkpoint import Checkpoint
from tasks.training.finetuning.do_no_harm import Judged
from tasks.training.finetuning.path import FINETUNED, SHARES
from tasks.training.finetuning.trunks import assemble, choose, fine_tune_trunks, trainings
from tasks.training.finetuning.tuning import Data, Tuned, label_tensor, open_source
from tasks.training.loop.fit import Epoch, History
from tasks.training.loop.scores import OfTarget, Scores
from tests.kit.killed import KilledAfter, KilledError

ROOT = Path(__file__).parents[4]
SIZE, NUM_TRAIN, NUM_VAL = 32, 48, 24
SHORT = {"epochs": 4, "minibatch_size": 8, "precision": "fp32", "num_views": 2, "unfreeze": 1, "device": "cpu"}
TARGETS = {"angle": Number(measure="degrees", centre=100.0, scale=20.0), "label": Classes(("cat", "dog"))}
BOTH, ANGLE, LABEL = ("angle", "label"), ("angle",), ("label",)


# what is trained, and what each target takes


def test_auto_trains_the_shared_trunk_and_one_a_target():
    assert trainings(BOTH, "auto") == [BOTH, ANGLE, LABEL]
    assert trainings(BOTH, "shared") == [BOTH]
    assert trainings(BOTH, "each") == [ANGLE, LABEL]
    assert trainings(LABEL, "auto") == [LABEL]


def judged(loss, error):
    spread = np.random.default_rng(0).uniform(0.9, 1.1, 50)
    return Judged(
        target=TARGETS["label"], temperature=1.0, factors=Factors(), losses=loss * spread, errors=np.full(50, error),
        hits=np.full(50, error < 0.5),
    )  # fmt: skip


def tuned(**after):
    """Return a training after which targets have these losses and errors on val; before it each has 1.0 and 0.4."""
    scores = Scores(loss=1.0, accuracy=0.5, of_targets=tuple(OfTarget(accuracy=0.5, error=0.5) for _ in after))
    epochs = [Epoch(epoch=each, train=scores, val=scores, val_calibrated_loss=1.0) for each in range(3)]
    path = {
        share: {
            name: judged(1 + share * (loss - 1), 0.4 + share * (error - 0.4)) for name, (loss, error) in after.items()
        }
        for share in SHARES
    }
    return Tuned(
        history=History(epochs=epochs, kept=2), judged=path, num_blocks=1, num_all_blocks=5, harm_significance=0.05
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shared", "own", "expected"),
    [
        ((0.6, 0.3), (0.4, 0.2), "own"),  # its own trunk is better by the test
        ((0.6, 0.3), (0.6, 0.3), "shared"),  # it is no better
        ((0.6, 0.3), (0.4, 0.35), "shared"),  # its loss is lower, and it is wrong more often
        ((1.2, 0.5), (0.6, 0.3), "own"),  # the shared trunk harms it
        ((1.2, 0.5), (1.3, 0.5), "head"),  # both do
    ],
)
def test_target_takes_its_own_trunk_only_where_that_beats_the_shared_one_and_keeps_its_head_where_both_harm(
    shared, own, expected
):
    after = {BOTH: tuned(angle=(0.5, 0.1), label=shared), ANGLE: tuned(angle=(0.5, 0.1)), LABEL: tuned(label=own)}
    outcome = choose(TARGETS, BOTH, after, significance=0.05)
    assert outcome.trunks() == {"angle": "shared", "label": expected}
    assert outcome.facts()["trunks"] == outcome.trunks()
    assert outcome.shares()["angle"] > 0
    assert (outcome.shares()["label"] > 0) == (expected != "head")
    verdicts = outcome.facts()["verdicts"]
    assert {name: verdict["is_finetuned"] for name, verdict in verdicts.items()} == {
        "angle": True, "label": expected != "head"
    }  # fmt: skip
    assert all(verdict["reason"].startswith(f"the model for {name} is ") for name, verdict in verdicts.items())
    named = {"own": "its own trunk of epoch 2", "shared": "the shared trunk of epoch 2", "head": "the head alone"}
    assert named[expected] in verdicts["label"]["reason"]


def test_curves_have_a_column_for_each_target_and_side():
    outcome = choose(TARGETS, BOTH, {BOTH: tuned(angle=(0.5, 0.1), label=(0.5, 0.1))}, significance=0.05)
    own = [name for name in outcome.curves() if "." in name]
    assert own == ["train_error.angle", "val_error.angle", "train_accuracy.label", "val_accuracy.label"]


# a bundle of several trunks


def new_model(seed=0, targets=TARGETS):
    torch.manual_seed(seed)
    return Classifier(load_backbone("shufflenet_v2_x0_5", weights="random", image_size=SIZE), targets).eval()


def pixels(n=5):
    return torch.randint(0, 256, (n, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def answers_of(model, images=None):
    return Answerer(model, device="cpu").answer(pixels() if images is None else images)


@pytest.fixture(scope="module")
def trained():
    """The weights and the answers of each training, which is a model of its own seed here."""
    models = {names: new_model(seed) for seed, names in enumerate((None, BOTH, ANGLE, LABEL))}
    return {names: (own.state_dict(), answers_of(own)) for names, own in models.items()}


@pytest.mark.parametrize("chosen", [(None, LABEL), (ANGLE, LABEL), (BOTH, LABEL), (BOTH, BOTH), (None, BOTH)])
def test_assembled_model_answers_each_target_as_its_training_did_after_a_bundle_too(tmp_path, trained, chosen):
    by_target = dict(zip(BOTH, chosen, strict=True))
    model = new_model(9)
    weights = {names: own for names, (own, _) in trained.items()}
    assemble(model, weights, by_target, build_backbone=lambda: new_model(7).backbone)
    assert len(model.all_trunks()) == len(set(chosen))
    assert model.trunk_of["label"] == (0 if len(set(chosen)) == 1 else 1)
    save_bundle(tmp_path, model, lineage={})
    for assembled in (model, load_bundle(tmp_path)[0]):
        found = answers_of(assembled)
        for name, names in by_target.items():
            assert np.array_equal(found[name], trained[names][1][name])


# with pictures


@pytest.fixture
def project(tmp_path):
    """Pictures of noise, whose label shows in a bright half; a number that follows nothing; labels missing."""
    chance = np.random.default_rng(0)
    (tmp_path / "raw/first").mkdir(parents=True)
    rows = []
    for number in range(NUM_TRAIN + NUM_VAL):
        noise = np.random.default_rng(number).integers(0, 180, (SIZE, SIZE, 3), dtype=np.uint8)
        noise[:, : SIZE // 2] += 60 * (number % 2)
        path = tmp_path / f"raw/first/{number}.png"
        Image.fromarray(noise).save(path)
        rows.append(
            {
                "batch": "first", "path": path.name, "sample_id": sample_id(path.read_bytes()),
                "label": None if number % 7 == 3 else ["cat", "dog"][number % 2],
                "angle": None if number % 5 == 4 else repr(float(chance.normal(100, 20))),
            }
        )  # fmt: skip
    return Project(tmp_path, pd.DataFrame(rows))


class Project:
    def __init__(self, folder, rows):
        self.folder, self.rows = folder, rows

    def images(self):
        return [Image.open(self.folder / "raw/first" / path) for path in self.rows["path"]]

    def tune(self, model, *, keeper_of=lambda names: None, hidden=(), in_use=None, **changes):
        """Fine-tune a model; `hidden` targets have no labels."""
        options = replace(load_params(ROOT / "params.yaml").finetune, **SHORT | changes)
        rows = self.rows.assign(**dict.fromkeys(hidden))
        data = Data(
            labels=label_tensor(rows, model.targets),
            train=np.arange(NUM_TRAIN),
            val=np.arange(NUM_TRAIN, NUM_TRAIN + NUM_VAL),
        )
        samples = Samples(rows, raw=self.folder / "raw", decode=decode_sample)
        source = open_source(
            samples, model, data, views=AugmentedViews(augmentation=options, seed=0), scratch=self.folder / "scratch",
            backbone=model.backbone.fingerprint(), options=options,
        )  # fmt: skip
        return fine_tune_trunks(
            model, source, data, options=options, seed=0, keeper_of=keeper_of,
            build_backbone=lambda: new_model().backbone, in_use=in_use,
        )  # fmt: skip


def bits(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_run_that_is_killed_in_any_training_goes_on_to_the_same_bytes(project, tmp_path):
    undisturbed, balance = new_model(), "uncertainty"
    expected = project.tune(undisturbed, balance=balance)

    def keeper(names, kind=Checkpoint):
        return kind(tmp_path / "checkpoints", recipe={"training": names})

    for doomed in expected.tuned:
        with pytest.raises(KilledError):
            project.tune(
                new_model(), balance=balance,
                keeper_of=lambda names, doomed=doomed: keeper(names, KilledAfter if names == doomed else Checkpoint),
            )  # fmt: skip
    resumed = new_model()
    found = project.tune(resumed, balance=balance, keeper_of=keeper)
    assert bits(resumed) == bits(undisturbed)
    assert found.facts() == expected.facts()
    assert resumed.targets == undisturbed.targets


@pytest.mark.parametrize("how", [{"averaging": 0.5}, {"update_statistics": True}])
def test_val_is_judged_alike_whether_the_kept_epoch_was_trained_in_this_run_or_an_earlier_one(project, tmp_path, how):
    def losses():
        outcome = project.tune(
            new_model(), hidden=["angle"], keeper_of=lambda names: Checkpoint(tmp_path, recipe={}),
            head_learning_rate=0.01, backbone_learning_rate=0.005, **how,
        )  # fmt: skip
        return outcome.tuned[LABEL].judged[FINETUNED]["label"].losses

    np.testing.assert_array_equal(losses(), losses(), strict=True)


def test_target_without_any_label_changes_no_bit_of_the_other(project):
    alone, beside = new_model(targets={"label": TARGETS["label"]}), new_model()
    beside.heads[1].load_state_dict(alone.heads[0].state_dict())
    eager = {"harm_significance": 0.01, "head_learning_rate": 0.01, "backbone_learning_rate": 0.005}
    expected = project.tune(alone, **eager).tuned[LABEL]
    outcome = project.tune(beside, hidden=["angle"], **eager)
    assert list(outcome.tuned) == [LABEL]
    assert outcome.tuned[LABEL].history == expected.history
    assert outcome.tuned[LABEL].history.kept > 0
    found = outcome.tuned[LABEL].judged[1.0]["label"]
    assert np.array_equal(found.losses, expected.judged[1.0]["label"].losses)
    assert np.array_equal(answers_of(alone)["label"], answers_of(beside)["label"])
    assert np.array_equal(answers_of(new_model())["angle"], answers_of(beside)["angle"])


def test_training_begins_at_the_head_as_it_answers(project):
    """Two heads that answer alike, one by its temperature and one by its weights, are trained alike."""
    one, other = (new_model(targets={"label": TARGETS["label"]}) for _ in range(2))
    one.temperatures["label"] = 4.0
    with torch.no_grad():
        for parameter in other.heads.parameters():
            parameter /= 4
    assert project.tune(one).tuned[LABEL].history == project.tune(other).tuned[LABEL].history


def test_head_that_is_kept_alone_keeps_its_weights_and_its_temperature(project):
    model = new_model(targets={"label": TARGETS["label"]})
    model.temperatures["label"] = 4.0
    before = bits(model)
    assert project.tune(model, epochs=0).chosen == {"label": None}
    assert (bits(model), model.temperatures) == (before, {"label": 4.0})


EAGER = {"harm_significance": 0.01, "head_learning_rate": 0.01, "backbone_learning_rate": 0.005}


@pytest.fixture
def in_use(project):
    """A model with a trunk of its own for each target."""
    model = new_model()
    assert project.tune(model, trunks="each", **EAGER).trunks() == {"angle": "own", "label": "own"}
    return model


def test_model_in_use_stays_to_the_bit_where_nothing_is_trained(project, in_use):
    model = new_model()
    outcome = project.tune(model, in_use=in_use, epochs=0, harm_significance=0.01)
    assert outcome.shares() == {"angle": 0.0, "label": 0.0}
    assert list(outcome.tuned) == [ANGLE, LABEL]
    assert len(model.all_trunks()) == 2
    found, expected = answers_of(model), answers_of(in_use)
    assert np.array_equal(found["angle"][:, 0], expected["angle"][:, 0])
    assert np.array_equal(found["label"], expected["label"])


def test_trunks_of_the_model_in_use_are_trained_on_and_the_heads_of_the_run_judged_beside_them(project, in_use):
    outcome = project.tune(new_model(), in_use=in_use, **EAGER)
    label = outcome.facts()["verdicts"]["label"]
    assert label["is_finetuned"]
    assert label["head"] != {name: label["candidates"][0][name] for name in label["head"]}
    assert len(label["candidates"]) == 5
    assert "of the model in use" in label["reason"]


@pytest.mark.parametrize("update_statistics", [False, True])
def test_each_target_answers_by_the_weights_at_its_share_of_the_way_with_their_calibration(project, update_statistics):
    """And val is judged as the model that is saved answers it."""
    model = new_model()
    eager = {"harm_significance": 0.01, "head_learning_rate": 0.01, "backbone_learning_rate": 0.005}
    outcome = project.tune(model, trunks="each", update_statistics=update_statistics, **eager)
    assert outcome.trunks() == {"angle": "own", "label": "own"}
    images = torch.stack([model.backbone.transform.prepare(image) for image in project.images()])
    found = answers_of(model, images)
    for name, names in outcome.chosen.items():
        own = outcome.tuned[names].judged[outcome.shares()[name]][name]
        assert model.temperatures[name] == own.temperature
        rows = project.rows[name].iloc[NUM_TRAIN:].notna().to_numpy()
        truths = own.target.encode(project.rows[name].iloc[NUM_TRAIN:][rows])
        errors = own.target.errors(found[name][NUM_TRAIN:][rows], truths)
        assert errors == pytest.approx(own.errors, rel=1e-3)


def test_targets_that_have_labels_on_one_side_only_are_refused_in_one_line(project):
    with pytest.raises(ValueError, match="no target has labels both on train and on val, expected at least one: land"):
        project.tune(new_model(), hidden=["angle", "label"])
