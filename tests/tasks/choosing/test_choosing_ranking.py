"""The best score comes first, the front leaves out what another beats, and a faster equal is recommended."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tasks.choosing.cost import Cost
from tasks.choosing.page import page
from tasks.choosing.ranking import Candidate, front, name_of, ranked, recommend
from tasks.metrics.transferability import Transferability
from tasks.stage.params import load_params
from tests.kit.chain import ROOT


@pytest.fixture
def candidate():
    """Makes a candidate that has `right` of 100 samples right, each candidate others, at a speed."""
    options = load_params(ROOT / "params.yaml").backbone

    def make(number, right, speed, name=""):
        gains = np.roll((np.arange(100) < right).astype(float), 3 * number)
        scores = Transferability(logme=right / 50, h_score=None, knn=right / 100, probe=right / 100, gains=gains)
        cost = Cost(samples_per_second=speed, num_parameters=10, dim=4, bundle_bytes=1000, latency_ms=1.0)
        return Candidate(
            number=number, name=name or f"backbone {number}", options=options, scores={"label": scores}, cost=cost
        )

    return make


def test_best_score_is_first_and_of_equal_ones_the_faster(candidate):
    order = ranked([candidate(0, 80, 10), candidate(1, 90, 10), candidate(2, 90, 20)])
    assert [one.number for one in order] == [2, 1, 0]


def test_front_has_those_that_no_other_beats_in_both(candidate):
    slow, beaten, fast = candidate(0, 90, 10), candidate(1, 80, 9), candidate(2, 85, 50)
    assert [one.number for one in front([beaten, fast, slow])] == [0, 2]


def test_fastest_within_one_standard_error_is_recommended(candidate):
    advice = recommend([candidate(0, 90, 10), candidate(1, 89, 40), candidate(2, 70, 400)])
    assert advice.candidate.number == 1
    assert "within one standard error" in advice.why
    assert "4 times as many samples a second as backbone 0" in advice.why


def test_best_is_recommended_where_faster_ones_are_clearly_worse(candidate):
    advice = recommend([candidate(0, 95, 10), candidate(1, 80, 400)])
    assert advice.candidate.number == 0
    assert "the best score" in advice.why


def test_speed_within_the_noise_of_a_measurement_wins_over_no_better_score(candidate):
    assert recommend([candidate(0, 90, 100), candidate(1, 89, 105)]).candidate.number == 0
    assert recommend([candidate(0, 90, 100), candidate(1, 89, 105), candidate(2, 88, 112)]).candidate.number == 2


def test_candidates_that_differ_in_the_power_the_decoding_or_the_library_have_other_names(candidate):
    own = candidate(0, 90, 10).options
    others = [own, replace(own, power=0.5), replace(own, decode="full"), replace(own, library="timm")]
    assert len({name_of(options, modality="images") for options in others}) == 4


def test_page_draws_every_backbone_and_escapes_what_it_shows(candidate):
    candidates = [candidate(1, 95, 10, name="<script>x</script>"), candidate(0, 80, 400), candidate(2, 80, 300)]
    left_out = [{"name": "a & b", "reason": "<i>missing</i>"}]
    text = page(
        candidates, recommend(candidates), left_out=left_out, num_samples=100, accept="graftline choose --accept"
    )
    assert text.count("<circle") == 3
    assert text.count('class="candidate best"') == 2
    assert "<script>" not in text
    assert "<i>missing" not in text
    assert "graftline choose --accept" in text


def test_backbones_of_one_score_and_one_speed_are_drawn(candidate):
    candidates = [candidate(0, 90, 10), replace(candidate(1, 90, 10))]
    text = page(candidates, recommend(candidates), left_out=[], num_samples=100, accept="graftline choose --accept")
    assert text.count("<circle") == 2


def test_page_asks_for_nothing_where_the_backbone_in_params_is_recommended(candidate):
    candidates = [candidate(0, 95, 10), candidate(1, 80, 400)]
    text = page(candidates, recommend(candidates), left_out=[], num_samples=100, accept="graftline choose --accept")
    assert "It is the one in params.yaml" in text
    assert "--accept" not in text


def test_ranks_of_dots_that_lie_together_stand_side_by_side_and_times_have_no_exponent(candidate):
    candidates = [candidate(0, 90, 5), candidate(1, 90, 5.01), candidate(2, 50, 500)]
    text = page(candidates, recommend(candidates), left_out=[], num_samples=100, accept="graftline choose --accept")
    assert ">1, 2</text>" in text
    assert ">3</text>" in text
    assert re.findall(r">(\S+) ms</text>", text)[-1].isdigit()
