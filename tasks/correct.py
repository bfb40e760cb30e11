"""Labels that people gave, as a table or as an export of Label Studio, in; rows of the corrections out."""

import logging
from collections import Counter
from pathlib import Path

from tasks.data.admission.corrections import RELABEL, Correction, append
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import read_manifest
from tasks.data.manifest.tables import read_text_table
from tasks.machine.files import read_json
from tasks.machine.names import listed, printable
from tasks.reviewing import label_studio, label_table
from tasks.stage.main import main
from tasks.targets.kinds import targets_of
from tasks.targets.target import Target

logger = logging.getLogger("graftline")


def run(*, labels: Path, who: str | None, validated: Path, batches: Path, corrections: Path) -> None:
    """Append the labels to the corrections. None is added where one of them cannot be read.

    Args:
        labels: the CSV file that people filled in, or Label Studio's export as JSON.
        who: the person who labelled; of an export, of those whom it does not name.
    """
    targets = targets_of(read_json(validated / "classes.json"))
    manifest = read_manifest(validated / "manifest", read_batches(batches))
    ledger = read_text_table(validated / "quarantine.csv")
    if not labels.is_file():
        raise ValueError(f"there is no file {labels}, expected a table with labels or an export of Label Studio")
    reader = label_studio if labels.suffix.lower() == ".json" else label_table
    known = {*manifest["sample_id"], *ledger["sample_id"]} - {""}
    wanted, gone, new = [], list[str](), Counter[str]()
    for sample_id, name, label, person in reader.labels_in(labels, targets):
        if sample_id not in known:
            gone.append(sample_id)
            continue
        read = read_label(label, name, targets[name], sample_id=sample_id)
        if targets[name].kind == "classes" and read not in targets[name].names:
            new[read] += 1
        wanted.append(Correction(sample_id=sample_id, target=name, label=read, action=RELABEL, who=person or who or ""))
    if any(not row.who for row in wanted):
        raise ValueError("nobody is named who labelled: `git config user.name 'Your Name'`, or --who NAME")
    if not wanted and not gone:
        raise ValueError(f"{labels} has no label: fill in a cell of {listed(list(targets))}, then run again")
    added = append(corrections, wanted, replaces=False)
    if gone:
        logger.warning(
            "warning: %d labels are of samples that no batch has, such as %s: they are left out",
            len(gone), printable(gone[0])[:12] or "one without a sample_id",
        )  # fmt: skip
    if new:
        logger.warning(
            "warning: new classes, which wait until they have enough samples: %s; are they spelt right?",
            listed([f"{name!r} ({number})" for name, number in new.most_common()]),
        )
    logger.info("%d labels are new in %s, %d were there", len(added), corrections, len(wanted) - len(added))


def read_label(label: str, name: str, target: Target, *, sample_id: str) -> str:
    """Return a label in the form of its target. Raises ValueError, with the sample, where it has none."""
    try:
        return target.read(label)
    except ValueError as error:
        raise ValueError(f"sample {sample_id[:12]}, {name}: {error}") from None


if __name__ == "__main__":
    main(run)
