"""The samples on which backbones are ranked are a fair part of those that may be learned from."""

import pandas as pd
import pytest

from tasks.choosing.sample import draw
from tasks.targets.classes import Classes
from tasks.targets.number import Number

TARGETS = {"label": Classes(("cat", "dog", "owl"))}


@pytest.fixture
def manifest():
    """300 samples: 200 cats, 96 dogs, 4 owls; every fifth is held out, every tenth has no label."""
    labels = ["cat"] * 200 + ["dog"] * 96 + ["owl"] * 4
    return pd.DataFrame(
        {
            "batch": "first",
            "path": [f"{row:03d}.png" for row in range(300)],
            "sample_id": [f"{row:064x}" for row in range(300)],
            "split": [
                "heldout" if row % 5 == 0 and row < 296 else "val" if row % 7 == 0 else "train" for row in range(300)
            ],
            "label": [None if row % 10 == 9 and row < 296 else label for row, label in enumerate(labels)],
        }
    )


def test_classes_keep_their_shares_and_a_rare_one_keeps_two(manifest):
    counts = draw(manifest, TARGETS, max_samples=60, seed=0)["label"].value_counts()
    assert counts.sum() == 60
    assert counts["cat"] == pytest.approx(2 * counts["dog"], abs=4)
    assert counts["owl"] >= 2


def test_held_out_and_unlabelled_samples_are_never_drawn(manifest):
    drawn = draw(manifest, TARGETS, max_samples=10_000, seed=0)
    usable = manifest[(manifest["split"] != "heldout") & manifest["label"].notna()]
    assert sorted(drawn["sample_id"]) == sorted(usable["sample_id"])


def test_one_sample_of_a_group_is_drawn(manifest):
    manifest["group"] = [None if row < 100 else f"patient {row // 20}" for row in range(300)]
    drawn = draw(manifest, TARGETS, max_samples=10_000, seed=0)
    assert not drawn["group"].dropna().duplicated().any()
    assert drawn["group"].isna().sum() > 50


def test_draw_is_the_same_for_a_seed(manifest):
    one, same, other = (draw(manifest, TARGETS, max_samples=30, seed=seed) for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one["path"].equals(other["path"])


def test_most_of_the_sample_is_drawn_again_after_new_data(manifest):
    before = manifest[manifest.index % 10 != 3]
    one, more = (set(draw(rows, TARGETS, max_samples=60, seed=0)["sample_id"]) for rows in (before, manifest))
    assert len(one & more) >= 48


def test_several_targets_share_the_number_and_a_number_is_drawn_over_its_range(manifest):
    manifest["angle"] = [None if row % 3 == 0 else str(row) for row in range(300)]
    drawn = draw(manifest, TARGETS | {"angle": Number()}, max_samples=80, seed=0)
    angles = drawn["angle"].dropna().astype(float)
    assert angles.min() < 40
    assert angles.max() > 260
    assert len(drawn) <= 82


def test_manifest_without_labels_is_refused(manifest):
    manifest["label"] = None
    with pytest.raises(ValueError, match="no sample of train or val has a label"):
        draw(manifest, TARGETS, max_samples=60, seed=0)
