"""The benchmark of alignment through the unfrozen layers: its claims are differences to plain fine-tuning."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.alignment import ALIGNED, HEADS, Draw, Pictures, make_claims, summarise


def row(case, seed, training, points):
    heads = {head: points + place for place, head in enumerate((*HEADS, *(f"last_{head}" for head in HEADS)))}
    return {
        "case": case,
        "seed": seed,
        "training": training,
        "seconds": 1.0,
        "is_finetuned": True,
        "epoch_kept": 1,
    } | heads


def test_claims_are_the_mean_gains_over_plain_fine_tuning():
    rows = []
    for seed in (0, 1):
        rows += [row("photo_cartoon", seed, "plain", 50), row("cartoon_photo", seed, "plain", 80)]
        for number, training in enumerate(ALIGNED):
            rows += [row("photo_cartoon", seed, training, 52 + number), row("cartoon_photo", seed, training, 76 + seed)]
    claims = {claim.name: claim.value for claim in make_claims(rows)}
    assert len(claims) == 2 * len(ALIGNED)
    first = next(iter(ALIGNED))
    for head in HEADS:
        assert claims[f"alignment.{head}_over_plain_points.{first}"] == pytest.approx((2 + 2 - 4 - 3) / 4)
    assert summarise(rows)[0]["general"] == 50


def test_samples_that_judge_are_in_no_other_part_and_source_and_target_do_not_mix():
    rows = pd.DataFrame({"domain": ["photo"] * 40 + ["cartoon"] * 30})
    draw = Draw.of(
        Pictures(rows=rows, classes=[], labels=np.zeros(70, int), image_size=8, source=None), "photo_cartoon", 0
    )
    assert sorted([*draw.unlabelled, *draw.judges]) == list(range(40, 70))
    assert len({*draw.train, *draw.val}) == len(draw.train) + len(draw.val) == 32
    assert max(*draw.train, *draw.val) < 40
