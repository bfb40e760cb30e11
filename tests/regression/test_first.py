"""The rules for a target that no model in use has, as on the first run: is the candidate worth anything?

Both are exact McNemar tests (McNemar 1947) on the same held-out samples. No number is asked for: data on which 88 % is
good pass, and a model that learned nothing fails.
"""

import pytest

from tasks.metrics.significance import compare, mcnemar, smallest_detectable_loss


@pytest.fixture(scope="session")
def new_targets(metrics, subject):
    """The targets that the model in use does not have; all on the first run."""
    return [target for target in metrics if target not in subject["lost_classes"]]


def test_candidate_beats_the_majority_class(new_targets, metrics, heldout, candidate, params, rule):
    """The majority class is the most common one in train: a model that learned nothing else answers it always."""
    for target in new_targets:
        rows, majority = heldout["target"] == target, metrics[target]["majority_class"]["name"]
        flips = compare(
            candidate=candidate["is_right"][rows].to_numpy(), baseline=(heldout["label"][rows] == majority).to_numpy()
        )
        rule(
            f"{target} p-value that the candidate is no better than always answering {majority}",
            mcnemar(flips.positive, flips.negative),
            at_most=params["significance"],
            smallest_detectable=smallest_detectable_loss(flips, significance=params["significance"]),
            parameter="significance",
        )


def test_candidate_is_not_worse_than_its_head_alone(new_targets, heldout, candidate, head, params, rule):
    """The head alone is the simple model: on the backbone as it came, without fine-tuning."""
    for target in new_targets:
        rows = (heldout["target"] == target).to_numpy()
        right = {"candidate": candidate["is_right"].to_numpy()[rows], "baseline": head["is_right"].to_numpy()[rows]}
        flips = compare(**right)
        significance = params["significance"] / len(new_targets)
        rule(
            f"{target} p-value that the candidate is no worse than its head alone",
            flips.p_value,
            at_least=significance,
            smallest_detectable=smallest_detectable_loss(flips, significance=significance),
            parameter="significance",
        )
