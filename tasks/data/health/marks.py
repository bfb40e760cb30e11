"""Count the parts of texts that an encoder could not read, from their marks.

The marks (n, 2) uint8 of n texts: 1 where a text is longer than the encoder reads, and 255 x the share of its tokens
that are unknown to the encoder. A text in a language that the encoder does not know has many of these, and its vector
is worthless.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.health.options import MarkLimits


def count_marks(marks: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the number of texts, of those that are cut, and the mean share of unknown tokens, 0..1."""
    return {
        "num_samples": len(marks),
        "num_cut": int(marks[:, 0].sum()),
        "share_unknown": float(marks[:, 1].mean() / 255) if len(marks) else 0.0,
    }


def describe_marks(counts: Mapping[str, Any], *, longest: str = "the encoder reads") -> str:
    """Return a sentence about the counts; `longest` names the length beyond which a text is cut."""
    are = "is" if counts["num_cut"] == 1 else "are"
    return (
        f"{counts['num_cut']:,} of {counts['num_samples']:,} texts {are} longer than {longest} and {are} cut; "
        f"{100 * counts['share_unknown']:.1f} % of tokens are unknown to the encoder"
    )


def warn_of_marks(counts: Mapping[str, Mapping[str, Any]], limits: MarkLimits) -> Iterator[str]:
    """Yield a warning for each of the batches in `counts` that is above a limit."""
    for batch, own in counts.items():
        if (cut := own["num_cut"] / max(own["num_samples"], 1)) > limits.max_cut:
            yield (
                f"{100 * cut:.0f} % of the texts of batch {batch} are longer than the encoder reads (audit.max_cut is "
                f"{limits.max_cut:g}): raise backbone.max_tokens, or set backbone.long to windows"
            )
        if (unknown := own["share_unknown"]) > limits.max_unknown:
            yield (
                f"{100 * unknown:.0f} % of the tokens of batch {batch} are unknown to the encoder (audit.max_unknown "
                f"is {limits.max_unknown:g}): name one that knows their language in backbone.weights"
            )
