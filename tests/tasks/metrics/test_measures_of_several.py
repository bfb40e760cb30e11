import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, hamming_loss

from tasks.metrics.answered import Answered
from tasks.metrics.bootstrap import measure_once
from tasks.metrics.calibration import bins_of
from tasks.metrics.several import details, measures, parts
from tasks.targets.several import Several
from tests.kit.draws import check_draws

TARGET = Several(("even", "loop", "tall"), thresholds=(0.4, 0.5, 0.7))


def made_up(n=300, *, seed=0, num_digits=2):
    """Probabilities with ties, and truths that follow them."""
    generator = np.random.default_rng(seed)
    probabilities = generator.random((n, 3)).round(num_digits)
    return Answered(probabilities, TARGET), (generator.random((n, 3)) < probabilities).astype(float)


def test_measures_are_those_of_scikit_learn():
    answered, truths = made_up()
    said = answered.answers >= np.array(TARGET.thresholds)
    measured = measure_once(measures(answered, truths, num_bins=15), n=len(truths))
    assert measured["mean_average_precision"] == pytest.approx(average_precision_score(truths, answered.answers))
    assert measured["macro_f1"] == pytest.approx(f1_score(truths, said, average="macro"))
    assert measured["micro_f1"] == pytest.approx(f1_score(truths, said, average="micro"))
    assert measured["hamming"] == pytest.approx(hamming_loss(truths, said))
    assert measured["all_right"] == pytest.approx((truths == said).all(axis=1).mean())


def test_sample_that_is_drawn_twice_counts_twice():
    check_draws(measures, *made_up(80))


def test_label_that_is_neither_there_nor_said_has_no_part_in_the_means():
    answered, truths = made_up()
    answered.answers[:, 1], truths[:, 1] = 0, 0
    measured = measure_once(measures(answered, truths, num_bins=15), n=len(truths))
    said = answered.answers >= np.array(TARGET.thresholds)
    others = f1_score(truths[:, [0, 2]], said[:, [0, 2]], average="macro")
    assert measured["macro_f1"] == pytest.approx(others)


def test_label_without_samples_has_no_precision_and_no_part_in_the_means():
    answered, truths = made_up()
    truths[:, 1] = 0
    measured = measure_once(measures(answered, truths, num_bins=15), n=len(truths))
    others = average_precision_score(truths[:, [0, 2]], answered.answers[:, [0, 2]])
    assert measured["mean_average_precision"] == pytest.approx(others)
    of_label = details(answered, truths)["labels"]["loop"]
    assert of_label == {"average_precision": None, "f1": None, "threshold": 0.5, "num": 0}
    assert [name for name, _ in parts(truths, TARGET)] == ["even", "tall"]


def test_samples_without_any_label_have_no_mean_average_precision():
    answered, truths = made_up(20)
    measured = measure_once(measures(answered, 0 * truths, num_bins=15), n=20)
    assert measured["mean_average_precision"] is None
    assert measured["macro_f1"] is None


def test_calibration_error_is_the_mean_over_the_labels():
    answered, truths = made_up()
    errors = []
    for p, truth in zip(answered.answers.T, truths.T, strict=True):
        bins = bins_of(p, num_bins=5)
        of_bins = [(bins == number).mean() * abs((p - truth)[bins == number].mean()) for number in np.unique(bins)]
        errors.append(sum(of_bins))
    measured = measure_once(measures(answered, truths, num_bins=5), n=len(truths))
    assert measured["calibration_error"] == pytest.approx(np.mean(errors))


def test_sample_is_in_the_part_of_each_of_its_labels():
    truths = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert {name: of.tolist() for name, of in parts(truths, TARGET)} == {
        "even": [True, False, False],
        "loop": [True, True, False],
    }
