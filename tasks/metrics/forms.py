"""Compare a form of a model, such as an exported file, with the model itself on held-out samples."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.metrics.answered import Answered
from tasks.metrics.measures import share_unchanged
from tasks.metrics.paired import paired_classes, paired_errors
from tasks.metrics.significance import compare, recorded
from tasks.targets.classes import Classes
from tasks.targets.target import Truths


def measure_form(
    truths: Truths, form: Answered, *, model: Answered, confidence: float, groups: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Return the accuracy of a form, or its mean error, and how it differs from the model on the same samples (n).

    `change` is that from the model to the form, of the accuracy or the error, with its interval, by groups; there is no
    interval where too few errors differ. `flips` counts the answers that only one of both has right. `changed` is the
    share of different answers.
    """
    groups = np.arange(len(truths)) if groups is None else groups
    right = {"candidate": form.is_right(truths), "baseline": model.is_right(truths)}
    facts = {
        "changed": 1 - share_unchanged(model, form),
        "flips": recorded(compare(**right, groups=groups)),
    }
    if isinstance(form.target, Classes):
        paired = paired_classes(candidate=right["candidate"], other=right["baseline"], groups=groups)
        ends = paired.interval(confidence=confidence)
        interval = ends and [-end for end in reversed(ends)]
        return facts | {"accuracy": float(right["candidate"].mean()), "change": -paired.mean, "interval": interval}
    errors = form.errors(truths)
    paired = paired_errors(candidate=errors, other=model.errors(truths), groups=groups)
    ends = paired.interval(confidence=confidence)
    return facts | {"error": float(errors.mean()), "change": paired.mean, "interval": ends and list(ends)}
