"""The manifest in; Great Expectations' HTML pages about it out, for a person who wants to look closer."""

import logging
from dataclasses import fields
from pathlib import Path

from tasks.data.admission.expectations import make_examination, write_data_docs
from tasks.data.admission.options import ExpectationOptions
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import read_manifest
from tasks.machine.files import read_json, whole_folder
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import ScanParams
from tasks.targets.kinds import targets_of

logger = logging.getLogger("graftline")


def run(
    *,
    validated: Path,
    batches: Path,
    out: Path,
    validate: ExpectationOptions,
    scan: ScanParams,
    modality: Modality,
) -> None:
    """Check the manifest once more and write the pages."""
    names = read_batches(batches)
    examination = make_examination(
        read_manifest(validated / "manifest", names),
        validate,
        batches=names,
        targets=targets_of(read_json(validated / "classes.json")),
        facts=[field.name for field in fields(room(modality, "facts").Facts)],
        min_image_size=scan.min_image_size,
    )
    with whole_folder(out) as folder:
        write_data_docs(examination, folder)
    logger.info("open %s", out / "index.html")


if __name__ == "__main__":
    main(run)
