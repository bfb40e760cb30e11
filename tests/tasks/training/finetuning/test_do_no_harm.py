import numpy as np
import pytest
import torch

from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.several import Several
from tasks.training.finetuning.do_no_harm import Judged, judge
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


def verdict(head, finetuned, *, significance=0.05, **changes):
    return judge(head=judged(head), finetuned=judged(finetuned), history=history(**changes), significance=significance)


HEAD = 0.5 + NOISE[0]


def test_model_that_is_clearly_better_is_the_candidate():
    found = verdict(HEAD, HEAD + 0.5)
    assert found.is_finetuned
    assert found.p_value < 0.001
    assert found.finetuned.loss < found.head.loss
    assert found.finetuned.accuracy > found.head.accuracy
    assert found.reason.startswith(
        "the candidate is the fine-tuned model of epoch 2: fine-tuning made it better: val log-loss"
    )


def test_model_that_is_no_better_than_the_head_is_not_the_candidate():
    found = verdict(HEAD, 0.5 + NOISE[0] + 0.01 * NOISE[1])
    assert not found.is_finetuned
    assert found.reason.startswith("the candidate is the head alone: ")


def test_gain_that_may_be_chance_is_none():
    """Better on average, in a way that varies much from sample to sample; and what asks for less evidence."""
    head = np.where(np.arange(100) < 20, -0.8, 0.8)
    better = head + 0.6 * NOISE[1].clip(-1, 1) + 0.1
    found = verdict(head, better)
    assert found.finetuned.loss < found.head.loss
    assert found.finetuned.accuracy >= found.head.accuracy
    assert found.p_value > 0.05
    assert not found.is_finetuned
    assert "what fine-tuning gained may be chance" in found.reason
    assert "expected p < 0.05" in found.reason
    assert verdict(head, better, significance=0.99).is_finetuned


def test_model_that_finds_fewer_classes_is_not_the_candidate_whatever_its_loss():
    """One that was right by a hair is wrong by a hair, and all others are much better."""
    head = np.where(np.arange(100) < 20, -1.0, 1.0)
    finetuned = 3 * head.clip(-0.3)
    head[30], finetuned[30] = 0.01, -0.01
    found = verdict(head, finetuned)
    assert found.finetuned.loss < found.head.loss
    assert found.p_value < 0.05
    assert not found.is_finetuned
    assert "fine-tuning made it less accurate" in found.reason
    assert "accuracy 0.8000 -> 0.7900" in found.reason


def test_model_that_is_as_good_in_every_sample_is_not_the_candidate():
    found = verdict(HEAD, HEAD)
    assert not found.is_finetuned
    assert found.p_value == 1.0


def test_training_in_which_every_epoch_was_worse_keeps_the_head_and_says_so():
    found = verdict(HEAD, HEAD, kept=0)
    assert not found.is_finetuned
    assert found.reason == (
        f"the candidate is the head alone: every epoch had a higher val log-loss than the head, {found.head.loss:.4f}"
    )


@pytest.mark.parametrize("kept", [0, 2])
def test_reason_says_that_the_loss_was_not_finite_and_what_to_do(kept):
    found = verdict(HEAD, HEAD + 0.5 * (kept > 0), kept=kept, ending="the loss was not finite")
    assert found.is_finetuned == (kept > 0)
    assert "training ended in epoch 3, where the loss was not finite: lower the learning rates" in found.reason


def test_training_of_no_epoch_is_told():
    found = verdict(HEAD, HEAD, kept=0, epochs=1)
    assert found.reason == "the candidate is the head alone: no epoch was trained"


def test_model_that_is_only_surer_gains_nothing():
    """Both are calibrated: what counts is how well classes are told apart."""
    found = verdict(HEAD, 3 * HEAD)
    assert found.finetuned.loss == pytest.approx(found.head.loss, rel=1e-4)
    assert not verdict(3 * HEAD, HEAD).is_finetuned


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


def test_number_is_judged_by_its_error_in_its_unit():
    truths = 100 + 50 * NOISE[0]
    head, finetuned = (judged_logits((NOISE[0] + far * NOISE[1])[:, None], truths, target=ANGLE) for far in (1.0, 0.2))
    found = judge(head=head, finetuned=finetuned, history=history(), significance=0.05)
    assert found.is_finetuned
    assert found.finetuned.error == pytest.approx(10 * np.abs(NOISE[1]).mean(), rel=1e-3)
    assert f"error {found.head.error:.4g} -> {found.finetuned.error:.4g} (degrees)" in found.reason
    assert found.facts()["head"].keys() == {"accuracy", "error", "loss", "unit"}


def test_number_whose_loss_falls_while_its_error_grows_keeps_the_head():
    """One sample that was far off is near now, and all others are a little further off."""
    truths = np.full(100, 100.0)
    off = np.full(100, 0.05)
    off[:3] = 8.0
    worse = off + 0.3
    worse[:3] = 1.0
    head, finetuned = (judged_logits(far[:, None], truths, target=ANGLE) for far in (off, worse))
    found = judge(head=head, finetuned=finetuned, history=history(), significance=0.5)
    assert found.finetuned.loss < found.head.loss
    assert not found.is_finetuned
    assert "fine-tuning made it worse: val loss" in found.reason


def test_labels_at_once_are_judged_by_the_share_that_is_wrong():
    target = Several(("even", "loop"))
    truths = np.stack([LABELS, (np.arange(100) % 3 == 0)], axis=1).astype(float)
    head, finetuned = (judged_logits(far * (2 * truths - 1) + NOISE.T, truths, target=target) for far in (0.5, 3.0))
    found = judge(head=head, finetuned=finetuned, history=history(), significance=0.05)
    assert found.is_finetuned
    assert found.finetuned.error < found.head.error


def test_verdict_on_classes_holds_no_error_beside_its_accuracy():
    assert verdict(HEAD, HEAD + 0.5).facts()["head"].keys() == {"accuracy", "loss"}
