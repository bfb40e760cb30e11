"""What any candidate must reach, whatever is in use."""


def test_accuracy_is_above_the_floor(metrics, params, rule):
    for target, measured in metrics.items():
        rule(f"{target} accuracy", measured["candidate"]["accuracy"], at_least=params["min_accuracy"])


def test_no_class_is_lost(metrics, params, rule):
    for target, measured in metrics.items():
        worst = min(measured["candidate"]["recall"], key=measured["candidate"]["recall"].get)
        rule(f"{target} recall of {worst}", measured["candidate"]["recall"][worst], at_least=params["min_class_recall"])


def test_confidence_is_calibrated(metrics, params, rule):
    for target, measured in metrics.items():
        error = measured["candidate"]["calibration_error"]
        rule(f"{target} calibration error", error, at_most=params["max_calibration_error"])


def test_bundle_is_no_larger_than_its_budget(subject, params, rule):
    if params["max_bundle_megabytes"] is not None:
        rule("bundle in MB", subject["candidate_bytes"] / 1e6, at_most=params["max_bundle_megabytes"])


def test_answers_do_not_change_with_what_should_not_matter(metrics, params, rule):
    for target, measured in metrics.items():
        for perturbation, share in measured["candidate"]["unchanged"].items():
            rule(f"{target} answers unchanged when {perturbation}", share, at_least=params["min_unchanged"])
