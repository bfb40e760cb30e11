"""The benchmark of adaptation: its draws keep the judges apart, and its claims are right."""

import numpy as np
import pytest

from benchmarks.adaptation import make_claims, summarise
from benchmarks.kit.domain_cases import case, half_rare, second, steep, third
from benchmarks.kit.domains import SECOND_CHANGES, SECOND_HAND_CHANGES, THIRD_CHANGES, THIRD_HAND_CHANGES, Embedded

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


def test_a_case_of_the_second_group_shifts_the_features_the_shares_or_both():
    pictures = {name: domain(400, 1000 * place) for place, name in enumerate(("source", "clean", "dark", "mildzoom"))}
    hands = {name: domain(400, 1000 * place) for place, name in enumerate(("source", "clean", "sharp"))}
    cases = {drawn.name: drawn for drawn in second(pictures, hands, None, 0)}
    for name in ("dark", "mildzoom", "sharp"):
        assert len(cases[f"second_{name}_few"].unlabelled) == 50
        plain, shifted = (np.bincount(cases[f"second_{name}{end}"].judges[1]) for end in ("", "_steep"))
        assert plain.max() < 2 * plain.min()
        assert shifted.max() > 3 * shifted.min()
    assert {drawn.group for drawn in cases.values()} == {"none", "strong", "mild", "few", "labels"}


def test_the_third_group_has_every_change_alone_and_with_shifted_shares():
    pictures = {name: domain(400, 1000 * place) for place, name in enumerate(("source", "clean", "fog"))}
    hands = {name: domain(400, 1000 * place) for place, name in enumerate(("source", "bright"))}
    names = [drawn.name for drawn in third(pictures, hands, None, 0)]
    assert names == [f"third_{change}{end}" for change in ("fog", "bright") for end in ("", "_labels", "_steep")]


CHANGES = [SECOND_CHANGES, SECOND_HAND_CHANGES, THIRD_CHANGES, THIRD_HAND_CHANGES]


@pytest.mark.parametrize("change", [change for changes in CHANGES for change in changes.values()])
def test_a_change_keeps_the_size_of_a_picture(change):
    pixels = np.random.default_rng(0).random((24, 32, 3)).astype(np.float32)
    changed = change(pixels, np.random.default_rng(1))
    assert changed.shape == pixels.shape
    assert np.isfinite(changed).all()


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


def test_a_group_on_which_nothing_was_chosen_has_claims_of_its_own():
    rows = [row("photo_cartoon", 0, source=30, auto=50, best=60)]
    rows += [row("second_dark", 0, source=70, auto=69, best=74, group="strong", set_name="second")]
    claims = {claim.name: claim.value for claim in make_claims(rows, {"draws": 0}, [])}
    assert claims["adaptation.cases_below_half_point.second"] == claims["adaptation.cases_below_half_point"] == 1
    assert claims["adaptation.oracle_share.second"] == pytest.approx(-1 / 4)
