"""The health of the data on the page: the samples to look at, and how new batches differ."""

from pathlib import Path
from typing import Any

from tasks.data.health.suspects import HEALTH, KINDS, read_suspects
from tasks.machine.files import read_json

MAX_ROWS = 5  # of each kind; suspects.csv has them all
MAX_PAIRS = 5  # of confused classes


def describe_health(folder: Path) -> dict[str, Any]:
    """Return the content of the folder that audit wrote, for the page.

    Returns:
        counts: the number of suspects of each kind that has any
        rows: of the suspects, the surest of each kind
        drifts: a sentence a batch
        confusions: pairs of classes, with the share of both classes' samples that is taken for the other
        weak: a sentence for each group with worse answers

    Raises:
        ValueError: the folder is missing.
    """
    suspects = read_suspects(folder)
    findings = read_json(folder / HEALTH)
    return {
        "counts": {KINDS[kind]: num for kind, num in findings["num_suspects"].items() if num},
        "rows": suspects.groupby("kind", sort=False).head(MAX_ROWS).to_dict("records"),
        "drifts": [batch["drift"]["text"] for batch in findings["batches"].values() if batch["drift"]],
        "confusions": [
            pair | {"target": target}
            for target, pairs in findings["confusions"].items()
            for pair in pairs[:MAX_PAIRS]
        ],
        "weak": [part["text"] for parts in findings["weak_slices"].values() for part in parts],
    }  # fmt: skip
