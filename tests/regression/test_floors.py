"""What any candidate must reach, whatever is in use. Floors of shares rise a little with each decision on one held-out set."""


def test_accuracy_is_above_the_floor(metrics, heldout, wear, params, rule):
    for target, measured in metrics.items():
        accuracy, count = measured["candidate"]["accuracy"], int((heldout["target"] == target).sum())
        rule(f"{target} accuracy", accuracy, at_least=params["min_accuracy"] + wear.margin(accuracy, count))


def test_no_class_is_lost(metrics, heldout, wear, params, rule):
    for target, measured in metrics.items():
        recalls = measured["candidate"]["recall"]
        worst = min(recalls, key=recalls.get)
        count = int(((heldout["target"] == target) & (heldout["label"] == worst)).sum())
        floor = params["min_class_recall"] + wear.margin(recalls[worst], count)
        rule(f"{target} recall of {worst}", recalls[worst], at_least=floor)


def test_confidence_is_calibrated(metrics, params, rule):
    for target, measured in metrics.items():
        error = measured["candidate"]["calibration_error"]
        rule(f"{target} calibration error", error, at_most=params["max_calibration_error"])


def test_answers_do_not_change_with_what_should_not_matter(metrics, params, rule):
    for target, measured in metrics.items():
        for perturbation, share in measured["candidate"]["unchanged"].items():
            rule(f"{target} answers unchanged when {perturbation}", share, at_least=params["min_unchanged"])


def test_bundle_is_no_larger_than_its_budget(subject, params, rule):
    if params["max_bundle_megabytes"] is not None:
        rule("bundle in MB", subject["candidate_bytes"] / 1e6, at_most=params["max_bundle_megabytes"])
