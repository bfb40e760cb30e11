import numpy as np
import pytest

from tasks.training.heads.choice import CAUTION, STRONGER, Choice

STRENGTHS = [0.01, 1.0, 0.1]
NOISE = np.random.default_rng(0).exponential(size=400)  # the losses of samples differ far more than those of strengths


def taken(choice, losses):
    """Return the strength that is chosen, and those that were looked at."""
    best, seen = None, []
    for l2, of_val in zip(choice.strengths, losses, strict=False):
        seen.append(l2)
        best = l2 if choice.takes(l2, of_val) else best
        if choice.is_over:
            break
    return best, seen


def test_path_ends_where_the_losses_on_val_are_clearly_above_the_lowest():
    losses = [NOISE + 1, NOISE, NOISE + 0.5, NOISE - 1]
    assert taken(Choice([3.0, *STRENGTHS], cautious=False), losses) == (1.0, [3.0, 1.0, 0.1])


def test_rise_within_the_noise_of_val_does_not_end_the_path():
    signs = np.where(np.arange(400) % 2, 1.0, -1.0)
    losses = [NOISE, NOISE + signs + 0.1, NOISE - 0.01]
    assert taken(Choice(STRENGTHS, cautious=False), losses) == (0.01, [1.0, 0.1, 0.01])


def test_few_labels_on_val_do_not_end_the_path():
    losses = [NOISE[:29], NOISE[:29] + 5, NOISE[:29] - 0.01]
    assert taken(Choice(STRENGTHS, cautious=False), losses) == (0.01, [1.0, 0.1, 0.01])


def test_without_labels_on_val_the_strength_in_the_middle_is_taken_and_ends_the_path():
    assert taken(Choice(STRENGTHS, cautious=False), [np.empty(0)] * 3) == (0.1, [1.0, 0.1])


@pytest.mark.parametrize(("gain", "best"), [(0.9, 30.0), (1.1, 10.0)])
def test_cautious_choice_takes_a_weaker_strength_only_where_it_is_worth_it(gain, best):
    choice = Choice(STRENGTHS, cautious=True)
    assert choice.strengths == sorted([*STRENGTHS, *STRONGER], reverse=True)
    assert taken(choice, [NOISE, NOISE - gain * CAUTION / len(NOISE)])[0] == best
