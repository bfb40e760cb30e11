import numpy as np
import pytest
import torch

from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.several import Several
from tasks.training.finetuning.do_no_harm import Judged, choose_share, judge
from tasks.training.finetuning.path import SHARES
from tasks.training.loop.fit import Epoch, History
from tasks.training.loop.scores import Scores, Total

PAIR = Classes(("cat", "dog"))
LABELS = np.arange(100) % 2
NOISE = np.random.default_rng(0).normal(size=(2, 100))


def judged(quality, *, labels=LABELS):
    """A model that is by so much for the right class, in logits (n,)."""
    logits = torch.zeros(len(labels), 2, dtype=torch.float64)
    logits[torch.arange(len(labels)), torch.from_numpy(labels)] = torch.from_numpy(
        np.broadcast_to(quality, len(labels)).copy()
    )
    return judged_logits(logits, labels)


def judged_logits(logits, labels, *, target=PAIR, words=None):
    """Judge logits (n, num_outputs) with labels (n,) or (n, width)."""
    total = Total([target])
    total.add([torch.as_tensor(logits)], torch.as_tensor(labels, dtype=torch.float32).reshape(len(labels), -1))
    return Judged.of(total, {"label": target}, words)["label"]


def history(*, kept=2, epochs=3, ending="every epoch was run"):
    scores = Scores(loss=1.0, accuracy=0.5)
    return History(
        epochs=[Epoch(epoch=each, train=None, val=scores, val_calibrated_loss=scores.loss) for each in range(epochs)],
        kept=kept,
        ending=ending,
    )


def path(head, finetuned, *, labels=LABELS):
    """The shares of the way between two models, in the quality (n,) of their answers."""
    return {share: judged(head + share * (finetuned - head), labels=labels) for share in SHARES}


def verdict(head, finetuned, *, significance=0.3, labels=LABELS, **changes):
    own = path(head, finetuned, labels=labels)
    past = history(**changes)
    paths = {"label": own if past.kept else {0.0: own[0.0]}}
    return judge(paths, history=past, significance=significance)["label"]


HEAD = 0.5 + NOISE[0]


def test_model_that_is_clearly_better_is_the_candidate():
    found = verdict(HEAD, HEAD + 2)
    assert found.share == 1.0
    assert found.is_finetuned
    assert found.p_value > 0.999
    losses = [own.loss for own in found.candidates.values()]
    assert losses == sorted(losses, reverse=True)
    assert found.reason.startswith(
        f"the candidate is the fine-tuned model of epoch 2: val log-loss {losses[0]:.4f} of the head alone, "
        f"{losses[1]:.4f} at 25% of the way, "
    )
    assert f"{losses[-1]:.4f} fine-tuned; accuracy {found.candidates[0.0].accuracy:.4f} -> " in found.reason


@pytest.mark.parametrize("num_samples", [1, 6])
def test_few_samples_choose_the_middle_whatever_they_say(num_samples):
    few = slice(num_samples)
    for gain in (0.3, -0.1):
        found = verdict(HEAD[few], HEAD[few] + gain * NOISE[1][few], labels=LABELS[few], significance=0.05)
        assert found.share == 0.5
        assert found.reason.startswith("the candidate is half of the way to the fine-tuned model of epoch 2: ")


def test_model_that_is_better_up_to_a_point_is_taken_up_to_there():
    """The gain turns into a loss at three quarters of the way."""
    qualities = {0.0: HEAD, 0.25: HEAD + 1, 0.5: HEAD + 1.5, 0.75: HEAD + 1, 1.0: HEAD}
    paths = {"label": {share: judged(own) for share, own in qualities.items()}}
    assert judge(paths, history=history(), significance=0.3)["label"].share == 0.5


def test_model_that_is_as_good_in_every_sample_is_taken_half_of_the_way():
    found = verdict(HEAD, HEAD)
    assert found.share == 0.5
    assert found.p_value == 1.0


def test_head_stays_where_the_middle_of_the_way_is_worse():
    found = verdict(HEAD + 1, HEAD)
    assert found.share == 0.0
    assert not found.is_finetuned
    assert found.p_value < 0.01
    assert found.reason.startswith(
        "the candidate is the head alone: half of the way, fine-tuning made it worse "
        f"(p = {found.p_value:.2g}, expected at least 0.3): val log-loss {found.candidates[0.0].loss:.4f} of the head"
    )


def test_loss_that_may_be_chance_keeps_no_head():
    """The middle is worse on average, in a way that varies much from sample to sample; and what asks for less."""
    head = np.where(np.arange(100) < 20, -0.8, 0.8)
    worse = head + 1.2 * NOISE[1].clip(-1, 1) - 0.1
    found = verdict(head, worse, significance=0.01)
    assert found.candidates[0.5].loss > found.candidates[0.0].loss
    assert 0.01 < found.p_value < 0.5
    assert found.is_finetuned
    assert not verdict(head, worse, significance=0.5).is_finetuned


def test_training_in_which_every_epoch_was_worse_keeps_the_head_and_says_so():
    found = verdict(HEAD, HEAD, kept=0)
    assert not found.is_finetuned
    loss = found.candidates[0.0].loss
    assert found.reason == (
        f"the candidate is the head alone: every epoch had a higher val log-loss than the head, {loss:.4f}"
    )


@pytest.mark.parametrize("kept", [0, 2])
def test_reason_says_that_the_loss_was_not_finite_and_what_to_do(kept):
    found = verdict(HEAD, HEAD + 0.5, kept=kept, ending="the loss was not finite")
    assert found.is_finetuned == (kept > 0)
    assert "training ended in epoch 3, where the loss was not finite: lower the learning rates" in found.reason


def test_training_of_no_epoch_is_told():
    found = verdict(HEAD, HEAD, kept=0, epochs=1)
    assert found.reason == "the candidate is the head alone: no epoch was trained"


def test_model_that_is_only_surer_gains_nothing():
    """All are calibrated: what counts is how well classes are told apart."""
    found = verdict(HEAD, 3 * HEAD)
    assert found.candidates[1.0].loss == pytest.approx(found.candidates[0.0].loss, rel=1e-4)
    assert found.share == verdict(3 * HEAD, HEAD).share == 0.5


def test_targets_choose_one_share_together_and_one_that_is_harmed_keeps_its_head():
    """Most say of the first that it goes all the way, and of the second, with fewer labels, that it does not."""
    few = slice(12)
    better, worse = path(HEAD, HEAD + 2), path(HEAD[few] + 1, HEAD[few] + 0.7, labels=LABELS[few])
    found = judge({"one": better, "other": worse}, history=history(), significance=0.01)
    assert found["one"].share == found["other"].share == 1.0
    assert judge({"other": worse}, history=history(), significance=0.01)["other"].share < 1.0
    harmed = path(HEAD + 2, HEAD)
    found = judge({"one": better, "other": harmed}, history=history(), significance=0.01)
    assert (found["one"].share, found["other"].share) == (1.0, 0.0)


def test_temperature_of_each_target_is_its_own():
    total = Total([PAIR, PAIR])
    labels = torch.from_numpy(np.stack([LABELS, 1 - LABELS], axis=1)).float()
    signs = torch.from_numpy(np.where(LABELS == 0, 1.0, -1.0) * HEAD)
    one = torch.stack([signs, -signs], dim=1)
    total.add([one, -4 * one], labels)
    found = Judged.of(total, {"animal": PAIR, "place": PAIR})
    assert found["place"].temperature == pytest.approx(4 * found["animal"].temperature, rel=1e-3)


def test_targets_are_judged_apart_and_missing_labels_left_out():
    total = Total([PAIR, PAIR])
    logits = torch.zeros(4, 2, dtype=torch.float64)
    nan = np.nan
    total.add([logits, logits], torch.tensor([[0, 1], [1, nan], [nan, nan], [0, 0]]))
    found = Judged.of(total, {"animal": PAIR, "place": PAIR})
    assert found["animal"].losses == pytest.approx(np.log(2) * np.ones(3))
    assert found["place"].losses == pytest.approx(np.log(2) * np.ones(2))
    assert found["place"].on_val().loss == pytest.approx(np.log(2))


def test_model_is_judged_with_the_words_that_it_would_be_joined_with():
    """What words already know is no gain of fine-tuning."""
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(100, 2)))
    words = 2 * np.eye(2)[LABELS] + np.random.default_rng(2).normal(size=(100, 2))
    alone, joined = judged_logits(logits, LABELS), judged_logits(logits, LABELS, words={"label": words})
    assert alone.factors.of_words == 0
    assert joined.factors.of_words > 0
    assert joined.on_val().accuracy > alone.on_val().accuracy + 0.2
    assert joined.on_val().loss < alone.on_val().loss - 0.2


# other kinds


ANGLE = Number(measure="degrees", centre=100.0, scale=50.0)


def number_path(start, end, *, n=100):
    truths = 100 + 50 * NOISE[0][:n]
    return {
        share: judged_logits((NOISE[0] + (start + share * (end - start)) * NOISE[1])[:n, None], truths, target=ANGLE)
        for share in SHARES
    }


def test_number_is_judged_by_its_error_in_its_unit():
    found = judge({"angle": number_path(1.0, 0.2)}, history=history(), significance=0.3)["angle"]
    assert found.share == 1.0
    last, first = found.candidates[1.0], found.candidates[0.0]
    assert last.error == pytest.approx(10 * np.abs(NOISE[1]).mean(), rel=1e-3)
    assert f"; error {first.error:.4g} -> {last.error:.4g} (degrees)" in found.reason
    assert found.facts()["candidates"][0].keys() == {"accuracy", "error", "loss", "share", "unit"}


def test_number_goes_as_far_whatever_its_deviation_is_beside_that_of_train():
    """A number that is known to a hundredth of its scale has tiny losses, which say as much."""
    far, near = number_path(1.0, 0.2), number_path(0.01, 0.002)
    assert choose_share([far]) == choose_share([near]) == 1.0
    assert choose_share([number_path(0.01, 0.002, n=2)]) < 1.0


def test_labels_at_once_are_judged_by_the_share_that_is_wrong():
    target = Several(("even", "loop"))
    truths = np.stack([LABELS, (np.arange(100) % 3 == 0)], axis=1).astype(float)
    own = {share: judged_logits((0.5 + 2.5 * share) * (2 * truths - 1) + NOISE.T, truths, target=target)
           for share in SHARES}  # fmt: skip
    found = judge({"traits": own}, history=history(), significance=0.3)["traits"]
    assert found.is_finetuned
    assert found.candidates[found.share].error < found.candidates[0.0].error


def test_verdict_on_classes_holds_no_error_beside_its_accuracy():
    facts = verdict(HEAD, HEAD + 2).facts()
    assert [own["share"] for own in facts["candidates"]] == list(SHARES)
    assert all(own.keys() == {"accuracy", "loss", "share"} for own in facts["candidates"])
    assert (facts["share"], facts["is_finetuned"]) == (1.0, True)


# from the model in use on


@pytest.mark.parametrize("kept", [2, 0])
def test_head_of_the_run_is_taken_only_where_the_model_in_use_is_worse(kept):
    """The model in use is trained on with gain, or no epoch is kept and it may stay as it is."""
    own = path(HEAD + 1, HEAD + 3)
    paths = {"label": own if kept else {0.0: own[0.0]}}
    for head, is_finetuned in ((HEAD, True), (HEAD + 6, False)):
        found = judge(paths, history=history(kept=kept), significance=0.3, heads={"label": judged(head)})["label"]
        assert found.is_finetuned == is_finetuned
        assert (found.share > 0) == bool(is_finetuned and kept)
        assert found.taken == (found.candidates[found.share] if is_finetuned else found.head)
        named = "the head alone: the model in use is worse (p = "
        if is_finetuned:
            named = "the fine-tuned model of epoch 2: " if kept else "the model in use: every epoch had a higher"
        assert named in found.reason
