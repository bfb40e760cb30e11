"""The pipeline on photographs with an ImageNet backbone, if the data is on this machine."""

import math

import pytest

from benchmarks.pipeline import SIGNS, WEIGHTS, run_signs

pytestmark = pytest.mark.skipif(
    not (SIGNS.is_file() and WEIGHTS.is_file()),
    reason="the photographs and the ImageNet weights are not on this machine",
)


def test_photographs_of_hands_are_classified_and_fine_tuning_does_no_harm(tmp_path):
    measured = run_signs(tmp_path / "signs", epochs=1)
    noise = 1.96 * math.sqrt(measured["head"] * (1 - measured["head"]) / measured["num_heldout"])
    assert measured["candidate"] >= 0.95
    assert measured["candidate"] >= measured["head"] - noise
