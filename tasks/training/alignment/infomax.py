"""Move a head until it is sure of the target's samples and spreads them over the classes.

The loss is that of the source's labels minus a strength times the information that answers on the target carry
("Discriminative clustering by regularized information maximization", Krause et al. 2010; SHOT, Liang et al. 2020).
"""

from tasks.training.alignment.domains import Array, Domains
from tasks.training.alignment.objective import Answered, Layer, fit_layer
from tasks.training.alignment.source_only import Fit
from tasks.training.alignment.spaces import Space

STRENGTH = 0.1
MOST_STEPS = 25  # of L-BFGS: the loss has no single minimum, and the start is a good head


def maximise_information(space: Space, domains: Domains, start: Fit, *, expected: Array | None = None) -> Layer:
    """Return the layer for the target in this space; the search starts at the sources' own layer.

    With the `expected` shares (k,) of the classes, answers are spread by these, else evenly.
    """
    rows = Answered.labelled(space.train, domains.labels, num_classes=len(domains.classes))
    return fit_layer(
        rows, start=start.layer, l2=start.l2, most_steps=MOST_STEPS, unlabelled=space.target, strength=STRENGTH,
        expected=expected,
    )  # fmt: skip
