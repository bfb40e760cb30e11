"""The benchmark of adaptation: its draws keep the judges apart, and its claims are right."""

import numpy as np
import pytest

from benchmarks.adaptation import make_claims, summarise
from benchmarks.kit.domain_cases import case, half_rare, steep
from benchmarks.kit.domains import Embedded

CLASSES = ["a", "b", "c", "d"]


def domain(num, start):
    """Return vectors whose first number is the number of the sample."""
    vectors = np.arange(start, start + num, dtype=np.float32)[:, None]
    return Embedded(vectors=vectors, labels=np.arange(num) % len(CLASSES), classes=CLASSES)


@pytest.mark.parametrize("kept", [None, half_rare, steep])
def test_no_sample_has_two_parts_in_a_draw(kept):
    drawn = case("name", "group", domain(400, 0), domain(300, 1000), 0, num_unlabelled=50, kept=kept)
    parts = [drawn.train[0], drawn.val[0], drawn.unlabelled, drawn.judges[0]]
    numbers = np.concatenate(parts).ravel()
    assert len(set(numbers.tolist())) == len(numbers)
    assert len(drawn.unlabelled) == 50
    assert len(drawn.train[0]) + len(drawn.val[0]) == 320


def test_a_steep_shift_makes_each_class_rarer_than_the_one_before():
    drawn = case("name", "group", domain(400, 0), domain(4000, 1000), 0, kept=steep)
    counts = np.bincount(drawn.judges[1])
    assert (np.diff(counts) < 0).all()


def row(name, seed, *, source, auto, best, group="pacs", set_name="pacs"):
    return {
        "case": name, "group": group, "set": set_name, "seed": seed,
        "accuracy": {"auto": auto, "infomax": best, "source": source}, "seconds": {"auto": 1.0},
        "by_strength": {"0.1": source - 1, "1": source + 2}, "auto": {"method": "infomax"},
        "labelled": {"1": source + 20, "5": source + 25, "10": source + 30},
    }  # fmt: skip


def test_claims_are_computed_from_the_runs():
    rows = [row("photo_cartoon", seed, source=30, auto=50 + seed, best=60) for seed in range(2)]
    rows += [row("cifar_none", seed, source=70, auto=69, best=70, group="none", set_name="cifar") for seed in range(2)]
    claims = {claim.name: claim.value for claim in make_claims(rows, {"alarms": 1, "draws": 50}, [2.0, 1.0, 3.0])}
    assert claims["adaptation.accuracy.photo_cartoon"] == pytest.approx(0.505)
    assert claims["adaptation.gain_points.photo_cartoon"] == pytest.approx(50.5 - 32)
    assert claims["adaptation.no_shift_points"] == -1
    assert claims["adaptation.cases_below_half_point"] == 1
    assert claims["adaptation.runs_below_half_point_fraction"] == 0.5
    assert claims["adaptation.oracle_share"] == pytest.approx((20.5 - 1) / 30)
    assert claims["adaptation.labelled_gain_points.5"] == 25
    assert claims["adaptation.detection_false_alarms"] == 0.02
    assert claims["adaptation.seconds"] == 2.0
    assert summarise(rows)[0]["gain"] == 20.5
