"""The benchmark of `watch`: its claims, and shifts that cost what they say."""

import numpy as np
import pytest

from benchmarks.watch import (
    COST,
    NUM_CHANGED,
    Samples,
    make_claims,
    shift_of_change,
    shift_of_shares,
    shift_of_strangers,
)


def samples(generator, n, accuracies):
    labels = generator.integers(0, len(accuracies), n)
    is_right = generator.random(n) < np.array(accuracies)[labels]
    answers = np.eye(len(accuracies))[np.where(is_right, labels, (labels + 1) % len(accuracies))]
    return Samples(vectors=generator.normal(size=(n, 4)).astype(np.float16), answers=answers, labels=labels)


def lost(shift, draws=60):
    generator = np.random.default_rng(1)
    pairs = [shift.draw(generator) for _ in range(draws)]
    assert all(len(window.labels) == 200 for _, window in pairs)
    return np.mean([reference.is_right.mean() - window.is_right.mean() for reference, window in pairs])


def test_each_kind_of_shift_costs_five_points():
    generator = np.random.default_rng(0)
    usual = samples(generator, 4000, (0.9, 0.8, 0.6))
    worse = usual.of(np.arange(NUM_CHANGED))
    worse = worse.with_others(samples(generator, 600, (0.5, 0.5, 0.5)), np.arange(600))
    strangers = samples(generator, 500, (0.0, 0.0, 0.0))
    shifts = [
        shift_of_change(usual, {0.1: usual.of(np.arange(NUM_CHANGED)), 0.2: worse}),
        shift_of_shares(usual, 3),
        shift_of_strangers(usual, strangers),
    ]
    for shift in shifts:
        assert lost(shift) == pytest.approx(COST, abs=0.02)


def test_power_is_the_least_of_all_kinds_of_shift():
    rows = [{"shift": "none", "alarms": 0.01}, {"shift": "blur", "alarms": 0.9}, {"shift": "shares", "alarms": 0.7}]
    claims = {claim.name: claim for claim in make_claims(rows)}
    assert claims["watch.false_alarms"].holds
    assert claims["watch.power"].value == 0.7
    assert not claims["watch.power"].holds
    assert claims["watch.power.blur"].holds
