"""What validate wrote in; Great Expectations' HTML pages about it out, for a person who wants to look closer."""

import logging
from pathlib import Path

from tasks.data.admission.expectations import tell, write_data_docs
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import read_manifest
from tasks.machine.files import read_json, whole_folder
from tasks.stage.main import main
from tasks.stage.params import ScanParams, ValidateParams

logger = logging.getLogger("graftline")


def run(*, validated: Path, batches: Path, out: Path, validate: ValidateParams, scan: ScanParams) -> None:
    """Check the manifest once more and draw the pages."""
    names = read_batches(batches)
    told = tell(
        read_manifest(validated / "manifest", names),
        batches=names,
        classes=read_json(validated / "classes.json"),
        limits=validate.expectations.model_dump(),
        drift_significance=validate.drift_significance,
        min_image_size=scan.min_image_size,
    )
    with whole_folder(out) as folder:
        write_data_docs(told, folder)
    logger.info("open %s", out / "index.html")


if __name__ == "__main__":
    main(run)
