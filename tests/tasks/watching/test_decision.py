"""The decision about a window: which shifts it detects, and how rarely it is wrong without one."""

import numpy as np
import pandas as pd
import pytest

from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.several import Several, write
from tasks.watching.answered import COLUMNS
from tasks.watching.decision import decide
from tasks.watching.reference import Reference
from tasks.watching.windows import Window

NAMES = ("cat", "dog", "eel")
CLASSES = {"label": Classes(NAMES)}


def table(**columns):
    n = len(next(iter(columns.values())))
    made = pd.DataFrame({"sample_id": [f"{number}" for number in range(n)], "target": "label"} | columns)
    made = made.reindex(columns=list(COLUMNS))
    return made.astype({"probability": float, "value": float, "unlike": float})


def decided(reference, window, targets=CLASSES, *, vectors=(None, None), false_alarms=0.01, unlike=None):
    usual = Reference(
        answers=reference, accuracy={}, vectors=vectors[0], unlike=unlike, what="samples"
    )  # fmt: skip
    own = Window(begin=None, end=None, answers=window, num_repeated=0, reasons={})
    return decide(own, usual, targets, vectors=lambda: vectors[1], false_alarms=false_alarms)


def drawn(generator, n, shares=(0.5, 0.3, 0.2), *, surer=0.0):
    probability = generator.beta(5, 2, n) ** np.exp(-surer)
    return table(label=generator.choice(NAMES, n, p=shares), probability=probability)


def reasons(decision):
    return {finding.test for finding in decision.reasons}


def test_windows_without_a_shift_raise_no_more_alarms_than_allowed():
    generator = np.random.default_rng(0)
    alarms = [decided(drawn(generator, 300), drawn(generator, 60), false_alarms=0.1).is_drifted for _ in range(80)]
    assert 0.0 < np.mean(alarms) < 0.2


def test_other_shares_and_other_confidence_are_each_detected():
    generator = np.random.default_rng(0)
    reference = drawn(generator, 600)
    assert reasons(decided(reference, drawn(generator, 200, (0.2, 0.3, 0.5)))) == {"shares"}
    unsure = decided(reference, drawn(generator, 200, surer=-0.7))
    assert reasons(unsure) == {"confidence"}
    assert "the mean confidence is" in unsure.reasons[0].words


def test_class_that_the_reference_never_answered_is_a_shift_of_shares():
    generator = np.random.default_rng(0)
    decision = decided(drawn(generator, 600, (0.6, 0.4, 0.0)), drawn(generator, 200, (0.5, 0.35, 0.15)))
    assert reasons(decision) == {"shares"}
    assert "eel, 0.0% in the reference" in decision.reasons[0].words


def test_moved_vectors_are_detected_though_the_answers_stay():
    generator = np.random.default_rng(0)
    reference, window = drawn(generator, 400), drawn(generator, 150)
    vectors = generator.normal(size=(400, 8)), generator.normal(size=(150, 8))
    assert not decided(reference, window, vectors=vectors).is_drifted
    moved = decided(reference, window, vectors=(vectors[0], vectors[1] + 1.0))
    assert "domain" in reasons(moved)
    assert next(one for one in moved.findings if one.test == "domain").effect > 0.8


def test_vectors_of_further_trunks_behind_the_first_do_not_matter():
    generator = np.random.default_rng(0)
    reference, window = drawn(generator, 400), drawn(generator, 150)
    vectors, others = generator.normal(size=(400, 8)), generator.normal(size=(150, 12))
    others[:, 8:] += 9
    assert not decided(reference, window, vectors=(vectors, others)).is_drifted
    with pytest.raises(ValueError, match="have 4 numbers, those of the reference 8: they are of another model"):
        decided(reference, window, vectors=(vectors, others[:, :4]))


def test_more_samples_unlike_any_training_are_detected():
    generator = np.random.default_rng(0)
    reference = drawn(generator, 600)
    usual, strange = (drawn(generator, 200).assign(unlike=(np.arange(200) < n).astype(float)) for n in (3, 16))
    known = (np.arange(600) < 6).astype(float)
    assert not decided(reference, usual, unlike=known).is_drifted
    assert reasons(decided(reference, strange, unlike=known)) == {"unlike"}


def test_detector_that_calls_too_many_samples_unlike_raises_no_false_alarm():
    generator = np.random.default_rng(0)
    reference, window = drawn(generator, 600), drawn(generator, 500)
    of_window, of_reference = ((generator.random(n) < 0.04).astype(float) for n in (500, 600))
    assert not decided(reference, window.assign(unlike=of_window), unlike=of_reference).is_drifted


def test_few_samples_far_from_all_that_are_known_are_detected_by_their_vectors():
    generator = np.random.default_rng(0)
    axes = np.eye(16)[generator.integers(0, 3, 550)] + 0.1 * generator.normal(size=(550, 16))
    reference, window = drawn(generator, 400), drawn(generator, 150)
    assert not decided(reference, window, vectors=(axes[:400], axes[400:])).is_drifted
    axes[400:410, :3], axes[400:410, 10] = 0, 1
    assert "unlike" in reasons(decided(reference, window, vectors=(axes[:400], axes[400:])))


def test_numbers_and_several_labels_are_compared_too():
    generator = np.random.default_rng(0)
    targets = {"label": Number(measure="mm")}
    reference = table(label=["1"] * 400, value=generator.normal(size=400))
    assert not decided(reference, table(label=["1"] * 100, value=generator.normal(size=100)), targets).is_drifted
    assert decided(reference, table(label=["1"] * 100, value=generator.normal(1, size=100)), targets).is_drifted
    several = {"label": Several(("red", "wide"))}

    def with_shares(n, red, wide):
        pairs = zip(generator.random(n) < red, generator.random(n) < wide, strict=True)
        return table(label=[write([name for name, is_there in zip(("red", "wide"), pair, strict=True) if is_there])
                            for pair in pairs])  # fmt: skip

    reference = with_shares(400, 0.5, 0.1)
    assert not decided(reference, with_shares(150, 0.5, 0.1), several).is_drifted
    assert "have wide" in decided(reference, with_shares(150, 0.5, 0.3), several).reasons[0].words


def test_window_with_few_samples_is_not_judged():
    generator = np.random.default_rng(0)
    decision = decided(drawn(generator, 300), drawn(generator, 29, (0, 0, 1)))
    assert not decision.is_drifted
    assert decision.why_not == "it has 29 samples, expected at least 30"
