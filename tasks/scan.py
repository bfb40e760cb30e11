"""A raw batch in; a row a sample with its facts, and a row a defect with its reason, out."""

import logging
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from tasks import stage
from tasks.data.class_folders import FoundFile, find_files
from tasks.data.images import ImageDefectError, ImageFacts, in_order, inspect_image, sample_id
from tasks.data.manifest import write_table
from tasks.files import whole_folder
from tasks.params import ScanParams
from tasks.progress import progress

logger = logging.getLogger("graftline")

SAMPLE_COLUMNS = ["path", "sample_id", "label", "format", "mode", "width", "height"]
DEFECT_COLUMNS = ["path", "sample_id", "reason", "detail"]


def run(*, raw: Path, out: Path, scan: ScanParams) -> None:
    """Look at every file of a batch once."""
    if not raw.is_dir():
        raise ValueError(f"there is no batch {raw}: put it there, `dvc pull` it, or take it out of data/batches.yaml")
    found = list(find_files(raw))
    samples, defects = scan_files(raw, found, scan)
    assert len(samples) + len(defects) == len(found)
    with whole_folder(out) as folder:
        write_table(folder / "samples.parquet", samples)
        defects.to_csv(folder / "defects.csv", index=False)
    logger.info("scanned %s: %s samples, %s defects", raw, f"{len(samples):,}", f"{len(defects):,}")


def scan_files(raw: Path, found: list[FoundFile], params: ScanParams) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The samples (SAMPLE_COLUMNS) and the defects (DEFECT_COLUMNS) among the files that were found."""

    def look(file: FoundFile) -> tuple[FoundFile, str, ImageFacts | ImageDefectError]:
        if file.reason:
            return file, "", ImageDefectError(file.reason, file.detail)
        try:
            content = (raw / file.path).read_bytes()
        except PermissionError:  # any other error says something of the disk, not of the picture, and ends the run
            return file, "", ImageDefectError("unreadable", "the file may not be read")
        identity = sample_id(content)
        try:
            return (
                file,
                identity,
                inspect_image(content, min_image_size=params.min_image_size, max_image_pixels=params.max_image_pixels),
            )
        except ImageDefectError as defect:
            return file, identity, defect

    samples, defects = [], []
    for file, identity, facts in progress(in_order(found, look), total=len(found), what=f"scan {raw}", unit="files"):
        row = {"path": file.path, "sample_id": identity}
        if isinstance(facts, ImageFacts):
            samples.append(row | {"label": file.label} | asdict(facts))
        else:
            defects.append(row | {"reason": facts.reason, "detail": str(facts)})
    return pd.DataFrame(samples, columns=SAMPLE_COLUMNS), pd.DataFrame(defects, columns=DEFECT_COLUMNS)


if __name__ == "__main__":
    stage.main(run)
