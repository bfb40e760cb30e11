"""The benchmark of the candidate: what each rule takes, and what it gains on held-out images."""

import numpy as np
import pytest

from benchmarks.candidate import above_chosen, claims_of, gains, summarise
from tasks.training.finetuning.path import SHARES


def run(qualities, *, heldout, num_val, kept=1):
    """Return a run whose candidates are by so much for the right class on val, and right on so many of 4 held out."""
    labels = np.arange(num_val) % 2
    noise = np.random.default_rng(0).normal(size=num_val)
    arrays = {"val_labels": labels, "held_labels": np.zeros(4, np.int64), "num_train": 8, "epoch": kept}
    for share, quality, hits in zip(SHARES, qualities, heldout, strict=True):
        arrays[f"val_{share:g}"] = np.eye(2, dtype=np.float32)[labels] * (quality + noise)[:, None].astype(np.float32)
        arrays[f"held_{share:g}"] = np.eye(2, dtype=np.float32)[(np.arange(4) >= hits).astype(int)]
    return summarise({"data": "made", "fraction": 1.0, "seed": 0} | arrays, significance=0.3)


def test_rules_take_what_val_says():
    rising = run((0, 0.5, 1, 1.5, 2), heldout=(1, 2, 3, 3, 4), num_val=200)
    taken = {"finetuned": "1", "middle": "0.5", "average": "average"}
    assert rising["shares"] == taken | dict.fromkeys(("chosen", "lowest_loss", "paired_test", "best"), "1")
    falling = run((2, 1.5, 1, 0.5, 0), heldout=(4, 3, 3, 2, 1), num_val=200)
    assert falling["shares"] == taken | dict.fromkeys(("chosen", "lowest_loss", "paired_test", "best"), "0")
    assert run((1, 1, 1, 1, 1), heldout=(1, 1, 1, 1, 1), num_val=200, kept=0)["shares"]["chosen"] == "0"


def test_average_leans_to_the_model_that_fits_val_better():
    rising = run((0, 0.5, 1, 1.5, 2), heldout=(1, 2, 3, 3, 4), num_val=200)
    assert rising["weight_of_average"] > 0.9
    assert rising["heldout_accuracy"]["average"] == 100
    few = run((0, 0.5, 1, 1.5, 2), heldout=(1, 2, 3, 3, 4), num_val=2)
    assert 0.5 < few["weight_of_average"] < rising["weight_of_average"]
    falling = run((2, 1.5, 1, 0.5, 0), heldout=(4, 3, 3, 2, 1), num_val=200)
    assert (falling["weight_of_average"], falling["heldout_accuracy"]["average"]) == (0, 100)


def test_rules_are_compared_run_by_run_with_what_is_shipped():
    rows = [run((0, 0.5, 1, 1.5, 2), heldout=hits, num_val=200) for hits in ((1, 2, 3, 3, 4), (2, 2, 3, 4, 3))]
    best = above_chosen(rows, "best")
    assert best["all"]["mean"] == best["made"]["mean"] == best["val_from_100"]["mean"] == 12.5
    assert "val_below_100" not in best


def test_claims_are_the_gains_over_the_head_in_points_of_held_out_accuracy():
    rows = [
        run((0, 0.5, 1, 1.5, 2), heldout=(1, 2, 3, 3, 4), num_val=200),
        run((0, 0.5, 1, 1.5, 2), heldout=(2, 2, 3, 3, 1), num_val=4),
    ]
    assert gains(rows, "finetuned") == {"mean": 25.0, "worst": -25.0, "few_val": -25.0}
    claims = {claim.name: claim.value for claim in claims_of({name: gains(rows, name) for name in rows[0]["shares"]})}
    assert claims["candidate.worst_points"] == claims["candidate.few_val_gain_points"] == 25.0
    assert claims["candidate.share_of_tuned_gain"] == pytest.approx(2.0)
