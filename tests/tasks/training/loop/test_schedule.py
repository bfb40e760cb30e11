from itertools import pairwise

import pytest

from tasks.training.loop.schedule import (
    MOST_EPOCHS,
    first_epoch,
    learning_rate_factor,
    mixup_alpha,
    num_epochs,
    num_steps,
)

SIZES = [1, 2, 10, 31, 32, 33, 100, 500, 999, 1000, 1001, 5000, 20_000, 50_000, 300_000, 1_280_000, 5_000_000]


@pytest.mark.parametrize(
    ("samples", "steps"), [(1_000, 500), (50_000, 10_000), (1_280_000, 20_000), (9_000_000, 20_000)]
)
def test_steps_are_those_of_the_rule_at_its_sizes(samples, steps):
    assert num_steps(samples) == pytest.approx(steps)


def test_more_samples_get_more_steps():
    steps = [num_steps(each) for each in SIZES]
    assert all(0 < one < other for one, other in pairwise(steps[:-1]))
    assert steps[-1] == steps[-2]


@pytest.mark.parametrize("minibatch_size", [1, 32, 512])
def test_more_samples_never_get_more_epochs(minibatch_size):
    """Between the sizes at which another full minibatch fits in."""
    sizes = [each for each in SIZES if each % minibatch_size == 0 and each >= minibatch_size]
    epochs = [num_epochs(each, minibatch_size=minibatch_size) for each in sizes]
    assert all(one >= other for one, other in pairwise(epochs))


@pytest.mark.parametrize(
    ("samples", "epochs"),
    [
        (1_000, 16),  # 500 steps, 31 an epoch
        (50_000, 6),  # 10,000 steps, 1,562 an epoch
        (1_280_000, 1),
        (0, 3),
        (1, 3),
        (32, MOST_EPOCHS),
        (100_000_000, 1),
    ],
)
def test_epochs_come_near_to_the_steps(samples, epochs):
    assert num_epochs(samples, minibatch_size=32) == epochs


def test_no_number_of_samples_is_trained_on_for_no_epoch_or_far_too_many():
    for size in (1, 7, 32, 65_536):
        assert all(1 <= num_epochs(each, minibatch_size=size) <= MOST_EPOCHS for each in (0, *SIZES))


def test_few_samples_are_not_mixed():
    assert [mixup_alpha(each) for each in (0, 19_999, 20_000, 10**7)] == [0.0, 0.0, 0.1, 0.1]


def test_blocks_are_unfrozen_from_the_output_on_and_all_train_together_in_the_second_half():
    assert [first_epoch(block, num_blocks=4, epochs=16) for block in range(4)] == [1, 3, 5, 7]
    for num_blocks in (1, 2, 5, 30):
        for epochs in (1, 2, 3, 10):
            firsts = [first_epoch(block, num_blocks=num_blocks, epochs=epochs) for block in range(num_blocks)]
            assert firsts == sorted(firsts)
            assert firsts[0] == 1
            assert firsts[-1] <= epochs // 2 + 1


def test_learning_rate_rises_then_falls_to_nothing():
    factors = [learning_rate_factor(step, num_steps=100, warmup_fraction=0.2) for step in range(101)]
    assert 0 < factors[0] < 0.1
    assert all(one < other for one, other in pairwise(factors[:21]))
    assert factors[20] == 1.0
    assert all(one > other for one, other in pairwise(factors[20:]))
    assert factors[60] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)


def test_learning_rate_without_warm_up_starts_in_full():
    assert learning_rate_factor(0, num_steps=10, warmup_fraction=0.0) == 1.0


def test_learning_rate_with_nothing_but_warm_up_only_rises():
    factors = [learning_rate_factor(step, num_steps=10, warmup_fraction=1.0) for step in range(11)]
    assert all(one < other for one, other in pairwise(factors))
    assert max(factors) == 1.0
