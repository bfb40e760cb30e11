"""The anchor: the best model that was in use, by its held-out answers, so that many small losses do not add up unseen.

Its errors travel with git. The anchor stays until a model in use is shown to be better, or until its errors are known
on less than a half of the held-out samples.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tasks.machine.files import whole_file, write_json
from tasks.metrics.paired import Paired, paired_classes, paired_errors

MOST = 20_000  # samples whose errors are kept: those with the smallest sample_ids, a random part
BETTER = 0.01  # the p-value below which a model in use is shown to be better; as good ones rarely are by chance
DIGITS = 16  # of the digest that names a sample with its label


class Anchor(BaseModel):
    """The errors of the best model that was in use, by the sample and its label. For classes, 1 means wrong.

    A sample whose label was corrected counts as another sample: the error was measured against the old label.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str
    errors: dict[str, float]


Anchors = dict[str, Anchor]  # by target


def read_anchors(path: Path) -> Anchors:
    """Return the anchors; none if there is no file yet. Raises ValueError if the file is malformed."""
    if not path.exists():
        return {}
    try:
        return TypeAdapter(Anchors).validate_json(path.read_bytes())
    except ValidationError:
        raise ValueError(
            f"{path} does not have the errors of the anchor: restore it with git; or remove it, and the model in use "
            "becomes the anchor"
        ) from None


def write_anchors(path: Path, anchors: Mapping[str, Anchor]) -> None:
    with whole_file(path) as beside:
        write_json(beside, {target: anchor.model_dump() for target, anchor in anchors.items()})


def raised(anchors: Anchors, rows: Mapping[str, pd.DataFrame], *, model: str) -> Anchors:
    """Return the anchors; the model in use becomes the anchor of a target where it is shown to be better.

    It also becomes the anchor where there is none, or where the anchor's errors are known on less than a half of the
    samples: so few could not show that a candidate is as good, however many samples are held out.

    Args:
        rows: by target, a row a sample that the model in use did not learn from: `sample_id`, `label`, its `baseline`
            error, and `group`.
        model: the digest of the model in use.
    """
    return anchors | {target: _raised(anchors.get(target), table, model) for target, table in rows.items()}


def against(anchor: Anchor, rows: pd.DataFrame, *, model: str, is_of_classes: bool) -> Paired:
    """Compare a model with the anchor on the samples of which the anchor's errors are known.

    Args:
        rows: those of `raised`, with the errors of `model` as a column.
    """
    known = names_of(rows).map(anchor.errors)
    is_there = known.notna().to_numpy()
    groups = pd.factorize(rows["group"][is_there])[0].astype(np.int64)
    other, errors_now = (np.asarray(errors[is_there], np.float64) for errors in (known, rows[model]))
    if is_of_classes:
        return paired_classes(candidate=errors_now == 0, other=other == 0, groups=groups)
    return paired_errors(candidate=errors_now, other=other, groups=groups)


def names_of(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return the name of each sample with its label: the beginning of a digest of both."""
    pairs = zip(rows["sample_id"], rows["label"], strict=True)
    digests = [sha256(f"{sample_id} {label}".encode()).hexdigest() for sample_id, label in pairs]
    return pd.Series([digest[:DIGITS] for digest in digests], index=rows.index, dtype=str)


def _raised(anchor: Anchor | None, rows: pd.DataFrame, model: str) -> Anchor:
    if anchor is not None and anchor.model != model:
        is_of_classes = set(np.unique(rows["baseline"])) <= {0.0, 1.0}
        lead = against(anchor, rows, model="baseline", is_of_classes=is_of_classes)
        better = Paired(losses=-lead.losses, groups=lead.groups, is_of_classes=is_of_classes)
        if 2 * lead.num_samples >= min(len(rows), MOST) and better.p_value >= BETTER:
            return anchor
    kept = rows.sort_values("sample_id").head(MOST)
    errors = {name: float(error) for name, error in zip(names_of(kept), kept["baseline"], strict=True)}
    return Anchor(model=model, errors=errors)
