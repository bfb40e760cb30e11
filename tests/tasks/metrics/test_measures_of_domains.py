import numpy as np
import pandas as pd

from tasks.metrics.answered import Answered
from tasks.metrics.domains import measure_domains
from tasks.metrics.options import MeasureOptions
from tasks.targets.classes import Classes

OPTIONS = MeasureOptions(calibration_bins=5, confidence=0.95, num_resamples=20)
LABELS = np.array([0, 1, 1, 0])
RIGHT = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
NONE = np.zeros(4, bool)


def measured(*, is_shared):
    answers = {"candidate": RIGHT, "general": RIGHT[::-1, ::-1], "baseline": RIGHT[:, ::-1]}
    return measure_domains(
        LABELS,
        {name: Answered(probabilities, Classes(("cat", "dog"))) for name, probabilities in answers.items()},
        OPTIONS,
        domains=pd.Series(["sea", "air", "sea", None]),
        leaked=NONE,
        is_shared=is_shared,
        seed=0,
    )


def test_each_domain_is_measured_by_itself():
    found = measured(is_shared=~NONE)
    assert {domain: own["num_samples"] for domain, own in found.items()} == {"air": 1, "sea": 2}
    assert found["sea"]["candidate"]["accuracy"] == 1.0
    assert found["sea"]["general"]["accuracy"] == 0.0
    assert (found["sea"]["flips"]["positive"], found["sea"]["flips"]["negative"]) == (2, 0)


def test_model_in_use_is_measured_where_all_samples_of_the_domain_are_shared():
    found = measured(is_shared=np.array([True, True, False, True]))
    assert "baseline" in found["air"]
    assert "baseline" not in found["sea"]
