"""What any candidate must reach, whatever is in use."""


def test_accuracy_is_above_the_floor(metrics, limits, rule):
    for target, measured in metrics.items():
        rule(f"{target} accuracy", measured["candidate"]["accuracy"], at_least=limits["min_accuracy"])


def test_no_class_is_lost(metrics, limits, rule):
    for target, measured in metrics.items():
        worst = min(measured["candidate"]["recall"], key=measured["candidate"]["recall"].get)
        rule(f"{target} recall of {worst}", measured["candidate"]["recall"][worst], at_least=limits["min_class_recall"])


def test_confidence_is_calibrated(metrics, limits, rule):
    for target, measured in metrics.items():
        error = measured["candidate"]["calibration_error"]
        rule(f"{target} calibration error", error, at_most=limits["max_calibration_error"])
