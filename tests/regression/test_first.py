"""The rules for a target that no model in use has, as on the first run: is the candidate worth anything?

Both are paired tests on the same held-out samples: for classes exact McNemar tests (McNemar 1947), for other kinds
tests of the samples' errors. No number is asked for: data on which 88 % is good pass, and a model that learned nothing
fails.
"""

import pytest

from tasks.metrics.paired import paired_classes, paired_errors


@pytest.fixture(scope="session")
def new_targets(metrics, subject):
    """The targets that the model in use does not have; all on the first run."""
    return [target for target in metrics if target not in subject["lost_classes"]]


def test_candidate_beats_the_majority_class(new_targets, metrics, heldout, candidate, groups, params, rule):
    """The majority class is the most common one in train: a model that learned nothing else answers it always.

    For other kinds it is the constant answer with the least mean error on train, such as the median.
    """
    for target in new_targets:
        rows, measured = (heldout["target"] == target).to_numpy(), metrics[target]
        if "kind" in measured:
            answer = measured["constant"]["answer"]
            constant, own = heldout["constant_error"].to_numpy()[rows], candidate["error"].to_numpy()[rows]
            gain = paired_errors(candidate=constant, other=own, groups=groups[rows])
        else:
            answer = measured["majority_class"]["name"]
            is_it = (heldout["label"][rows] == answer).to_numpy()
            gain = paired_classes(candidate=is_it, other=candidate["is_right"].to_numpy()[rows], groups=groups[rows])
        rule(
            f"{target} p-value that the candidate is no better than always answering {answer}",
            gain.p_value,
            at_most=params["significance"],
            smallest_detectable=gain.smallest_detectable(significance=params["significance"]),
            parameter="significance",
            unit=measured.get("unit"),
        )


def test_candidate_is_not_worse_than_its_head_alone(
    new_targets, metrics, heldout, candidate, head, groups, false_blocks, rule
):
    """The head alone is the simple model: on the backbone as it came, without fine-tuning."""
    for target in new_targets:
        rows = (heldout["target"] == target).to_numpy()
        pair, compared = (paired_errors, "error") if "kind" in metrics[target] else (paired_classes, "is_right")
        own, of_head = (model[compared].to_numpy()[rows] for model in (candidate, head))
        loss = pair(candidate=own, other=of_head, groups=groups[rows])
        significance = false_blocks["comparison"] / len(new_targets)
        rule(
            f"{target} p-value that the candidate is no worse than its head alone",
            loss.p_value,
            at_least=significance,
            smallest_detectable=loss.smallest_detectable(significance=significance),
            parameter="significance",
            unit=metrics[target].get("unit"),
        )
