"""The rules for every candidate; a floor that is null in params.yaml is none.

The floor of a share rises a little with each decision on one held-out set, and the ceiling of an error falls.
"""

from math import sqrt

from scipy.stats import norm

from tasks.metrics.significance import POWER, smallest_detectable_shortfall


def test_accuracy_is_above_the_floor(metrics, heldout, candidate, wear, params, rule):
    """A target of another kind than `classes` has a ceiling of its mean error instead, in its unit."""
    floor = params["min_accuracy"]
    for target, measured in having("accuracy", metrics) if floor is not None else ():
        count = int((heldout["target"] == target).sum())
        accuracy = measured["candidate"]["accuracy"]
        reach(rule, f"{target} accuracy", accuracy, count, floor, wear, parameter="min_accuracy")
    units = {target: measured["unit"] for target, measured in having("error", metrics)}
    for target, ceiling in params["max_error"].items():
        if target not in units:
            raise LookupError(
                f"regression.max_error names {target!r}, expected a target of the kind several, ordinal or number "
                f"({', '.join(units) or 'there is none'}): correct params.yaml; classes have min_accuracy"
            )
        errors = candidate["error"][heldout["target"] == target]
        standard_error = errors.std(ddof=1) / sqrt(len(errors)) if len(errors) > 1 else 0.0
        margin = wear.margin_of_mean(standard_error)
        rule(
            f"{target} mean error",
            errors.mean(),
            at_most=ceiling - margin,
            smallest_detectable=max(float(norm.ppf(POWER)) * standard_error - margin, 0.0),
            parameter="max_error",
            unit=units[target],
        )


def test_no_class_is_lost(metrics, heldout, subject, wear, params, rule):
    for target in subject.get("lost_targets", []):
        rule(f"{target} is a target of the model in use, and the candidate lacks it", 1, at_most=0)
    for target, names in subject["lost_classes"].items():
        rule(f"{target} classes that the model in use knows and the candidate does not", len(names), at_most=0)
    floor = params["min_class_recall"]
    for target, measured in having("recall", metrics) if floor is not None else ():
        counts = heldout.loc[heldout["target"] == target, "label"].value_counts()
        recalls = measured["candidate"]["recall"]
        # the class that is farthest below its floor, or least above it; the floor of a small class rises more
        least = min(recalls, key=lambda name: recalls[name] - wear.margin(recalls[name], counts[name]))
        count, name = int(counts[least]), f"{target} recall of {least}"
        reach(rule, name, recalls[least], count, floor, wear, parameter="min_class_recall")


def test_confidence_is_calibrated(metrics, heldout, subject, wear, params, rule):
    """The interval of a number holds the truth as often as its floor says.

    The heads of domains are not calibrated: the samples that they answer have no part in the calibration error.
    """
    ceiling = params["max_calibration_error"]
    for target, measured in having("calibration_error", metrics) if ceiling is not None else ():
        low, high = measured["candidate"]["intervals"]["calibration_error"]
        standard_error = (high - low) / 2 / norm.isf((1 - subject["confidence"]) / 2)
        where = " outside adapted domains" if "num_calibrated" in measured["candidate"] else ""
        rule(
            f"{target} calibration error{where}",
            measured["candidate"]["calibration_error"],
            at_most=ceiling,
            smallest_detectable=float(norm.ppf(POWER) * standard_error),
            parameter="max_calibration_error",
        )
    floor = params["min_interval_coverage"]
    for target, measured in having("coverage", metrics) if floor is not None else ():
        count, coverage = int((heldout["target"] == target).sum()), measured["candidate"]["coverage"]
        name = f"{target} share within the interval"
        reach(rule, name, coverage, count, floor, wear, parameter="min_interval_coverage")
    for target, measured in having("num_calibrated", metrics) if ceiling is not None else ():
        if not measured["candidate"]["num_calibrated"]:
            raise LookupError(
                f"every held-out sample of {target} is of a domain that the candidate is adapted to, so that none can "
                "judge its calibration: land labelled samples of other domains, or set "
                "regression.max_calibration_error: null"
            )


def test_answers_do_not_change_with_what_should_not_matter(metrics, heldout, params, rule):
    floor = params["min_unchanged"]
    for target, measured in metrics.items() if floor is not None else ():
        count = int((heldout["target"] == target).sum())
        for perturbation, share in measured["candidate"]["unchanged"].items():
            name = f"{target} answers unchanged when {perturbation}"
            reach(rule, name, share, count, floor, parameter="min_unchanged")


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


def having(name, metrics):
    """Return the targets whose kind has this measure, with all their measures."""
    return [(target, measured) for target, measured in metrics.items() if name in measured["candidate"]]


def reach(rule, name, share, num_samples, floor, wear=None, *, parameter):
    """Check a share of `num_samples` against a floor, which rises with the wear."""
    margin = wear.margin(share, num_samples) if wear else 0.0
    detectable = smallest_detectable_shortfall(floor, num_samples=num_samples, margin=margin)
    rule(name, share, at_least=floor + margin, smallest_detectable=detectable, parameter=parameter)
