"""The chain on photographs with an ImageNet backbone, where the shared data is there."""

import math

import pytest

from benchmarks.pipeline import SIGNS, WEIGHTS, run_signs

pytestmark = pytest.mark.skipif(
    not (SIGNS.is_file() and WEIGHTS.is_file()),
    reason="the photographs and the ImageNet weights are not on this machine",
)


def test_photographs_of_hands_are_told_apart_and_fine_tuning_does_no_harm(tmp_path):
    found = run_signs(tmp_path / "signs", epochs=2)
    noise = 1.96 * math.sqrt(found["head"] * (1 - found["head"]) / found["num_heldout"])
    assert found["candidate"] >= 0.95
    assert found["candidate"] >= found["head"] - noise
