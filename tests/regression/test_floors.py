"""The rules for every candidate; a floor that is null in params.yaml is none.

A share breaks its floor where it is significantly below, so that a model that is as good as its floor is rarely
rejected, however few samples there are.
"""

import numpy as np

from tasks.gate.floor import least_share, p_value_of_floor
from tasks.metrics.accuracy import design_effect
from tasks.metrics.distributions import normal_quantile
from tasks.metrics.significance import (
    POWER,
    by_group,
    smallest_detectable_excess,
    smallest_detectable_shortfall,
)


def test_accuracy_is_above_the_floor(metrics, heldout, candidate, groups, params, false_blocks, rule):
    """A target of another kind than `classes` has a ceiling of its mean error instead, in its unit."""
    floor, level = params["min_accuracy"], false_blocks["floors"] / num_floors(metrics, params)
    for target, measured in having("accuracy", metrics) if floor is not None else ():
        num = effective(candidate, groups, heldout["target"] == target)
        accuracy = measured["candidate"]["accuracy"]
        reach(rule, f"{target} accuracy", accuracy, num, floor, level=level, parameter="min_accuracy")
    units = {target: measured["unit"] for target, measured in having("error", metrics)}
    for target, ceiling in params["max_error"].items():
        if target not in units:
            raise LookupError(
                f"regression.max_error names {target!r}, expected a target of the kind several, ordinal or number "
                f"({', '.join(units) or 'there is none'}): correct params.yaml; classes have min_accuracy"
            )
        rows = (heldout["target"] == target).to_numpy(bool)
        errors = candidate["error"][rows].to_numpy()
        rests = by_group(errors - errors.mean(), np.unique(groups[rows], return_inverse=True)[1])
        standard_error = float(np.sqrt((rests**2).sum())) / len(errors)
        margin = -normal_quantile(level) * standard_error  # chance explains so much
        rule(
            f"{target} mean error beside a ceiling of {ceiling:g}",
            errors.mean(),
            at_most=ceiling + margin,
            smallest_detectable=normal_quantile(POWER) * standard_error + margin,
            parameter="max_error",
            unit=units[target],
        )


def test_no_class_is_lost(metrics, heldout, candidate, groups, subject, params, false_blocks, rule, remark):
    for target in subject.get("lost_targets", []):
        rule(f"{target} is a target of the model in use, and the candidate lacks it", 1, at_most=0)
    for target, names in subject["lost_classes"].items():
        rule(f"{target} classes that the model in use knows and the candidate does not", len(names), at_most=0)
    floor, level = params["min_class_recall"], false_blocks["floors"] / num_floors(metrics, params)
    for target, measured in having("recall", metrics) if floor is not None else ():
        recalls = measured["candidate"]["recall"]
        is_target = heldout["target"] == target
        nums = {name: effective(candidate, groups, is_target & (heldout["label"] == name)) for name in recalls}
        small = [name for name, num in nums.items() if not least_share(floor, num_samples=num, level=level)]
        for name in small:
            remark("classes_too_small", f"{target} {name}")
        judged = {name: nums[name] for name in recalls if name not in small}
        if not judged:
            continue
        of_class = level / len(judged)  # Holm's first step: the class with the least p-value decides
        p_values = {name: p_value_of_floor(recalls[name], floor=floor, num_samples=judged[name]) for name in judged}
        least = min(judged, key=p_values.__getitem__)
        name = f"{target} recall of {least}"
        reach(rule, name, recalls[least], judged[least], floor, level=of_class, parameter="min_class_recall")


def test_confidence_is_calibrated(metrics, heldout, candidate, groups, subject, params, false_blocks, rule):
    """The interval of a number holds the truth as often as its floor says.

    The heads of domains are not calibrated: the samples that they answer have no part in the calibration error.
    """
    ceiling = params["max_calibration_error"]
    for target, measured in having("calibration_error", metrics) if ceiling is not None else ():
        low, high = measured["candidate"]["intervals"]["calibration_error"]
        standard_error = (high - low) / 2 / -normal_quantile((1 - subject["confidence"]) / 2)
        where = " outside adapted domains" if "num_calibrated" in measured["candidate"] else ""
        rule(
            f"{target} calibration error{where}",
            measured["candidate"]["calibration_error"],
            at_most=ceiling,
            smallest_detectable=normal_quantile(POWER) * standard_error,
            parameter="max_calibration_error",
        )
    floor, level = params["min_interval_coverage"], false_blocks["floors"] / num_floors(metrics, params)
    for target, measured in having("coverage", metrics) if floor is not None else ():
        is_target, coverage = heldout["target"] == target, measured["candidate"]["coverage"]
        is_within = heldout["label_value"].between(candidate["low"], candidate["high"])
        num = effective(candidate.assign(is_right=is_within), groups, is_target)
        name = f"{target} share within the interval"
        reach(rule, name, coverage, num, floor, level=level, parameter="min_interval_coverage")
    for target, measured in having("num_calibrated", metrics) if ceiling is not None else ():
        if not measured["candidate"]["num_calibrated"]:
            raise LookupError(
                f"every held-out sample of {target} is of a domain that the candidate is adapted to, so that none can "
                "judge its calibration: land labelled samples of other domains, or set "
                "regression.max_calibration_error: null"
            )


def test_answers_do_not_change_with_what_should_not_matter(metrics, heldout, groups, params, false_blocks, rule):
    floor, level = params["min_unchanged"], false_blocks["floors"] / num_floors(metrics, params)
    for target, measured in metrics.items() if floor is not None else ():
        _, sizes = np.unique(groups[(heldout["target"] == target).to_numpy(bool)], return_counts=True)
        num = sizes.sum() ** 2 / (sizes**2).sum()  # as if the answers of a group change together
        for perturbation, share in measured["candidate"]["unchanged"].items():
            name = f"{target} answers unchanged when {perturbation}"
            reach(rule, name, share, num, floor, level=level, parameter="min_unchanged")


def test_bundle_is_no_larger_than_its_budget(subject, params, rule):
    budget = params["max_bundle_megabytes"]
    if budget is not None:
        rule("bundle in MB", subject["candidate_bytes"] / 1e6, at_most=budget, parameter="max_bundle_megabytes")


def test_sample_takes_no_longer_than_its_budget(latency, params, rule):
    """The rule is yes or no, because the milliseconds differ between runs; the log has them."""
    if latency is not None:
        budget = params["max_latency_milliseconds"]
        is_kept = float(latency <= budget)
        rule(f"one sample within {budget:g} ms", is_kept, at_least=1, parameter="max_latency_milliseconds")


def test_other_forms_of_the_candidate_answer_like_it(metrics, params, rule):
    budget = params["max_form_flips"]
    if budget is None:
        return
    if not any("forms" in measured for measured in metrics.values()):
        raise LookupError(
            "regression.max_form_flips has a limit, and evaluate.forms is empty: name forms, such as [int8], or set "
            "regression.max_form_flips: null"
        )
    for target, measured in metrics.items():
        for form, own in measured["forms"].items():
            flips = own["flips"]
            rule(
                f"{target} share of negative flips from the candidate to {form}",
                flips["negative"] / flips["num_samples"],
                at_most=budget,
                smallest_detectable=smallest_detectable_excess(budget, num_samples=flips["num_samples"]),
                parameter="max_form_flips",
            )


def having(name, metrics):
    """Return the targets whose kind has this measure, with all their measures."""
    return [(target, measured) for target, measured in metrics.items() if name in measured["candidate"]]


def num_floors(metrics, params):
    """Return among how many floors the chance of a false alarm is divided, at least 1."""
    by_measure = {"min_accuracy": "accuracy", "min_class_recall": "recall", "min_interval_coverage": "coverage"}
    floors = [
        target
        for name, measure in by_measure.items()
        if params[name] is not None
        for target, _ in having(measure, metrics)
    ]
    if params["min_unchanged"] is not None:
        floors += [each for measured in metrics.values() for each in measured["candidate"]["unchanged"]]
    return max(len(floors) + len(params["max_error"]), 1)


def effective(candidate, groups, rows):
    """Return how many samples the rows tell as much as: those that come in groups count as fewer."""
    rows = rows.to_numpy(bool)
    is_right = candidate["is_right"].to_numpy(bool)[rows]
    return len(is_right) / design_effect(is_right, np.unique(groups[rows], return_inverse=True)[1])


def reach(rule, name, share, num_samples, floor, *, level, parameter):
    """Check that a share of `num_samples` is not significantly below its floor."""
    limit = least_share(floor, num_samples=num_samples, level=level)
    n = max(round(num_samples), 1)
    detectable = smallest_detectable_shortfall(floor, num_samples=n, margin=limit - floor)
    title = f"{name} beside a floor of {floor:g}"
    rule(title, share, at_least=limit, smallest_detectable=detectable, parameter=parameter)
