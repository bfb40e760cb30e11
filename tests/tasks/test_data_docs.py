"""The pages of Great Expectations, from what a run left."""

import pytest

from tasks import data_docs, scan, validate
from tasks.stage.params import load_params

pytestmark = pytest.mark.usefixtures("great_expectations")


def test_pages_are_drawn_from_what_validate_wrote(workspace, picture, tmp_path):
    params = load_params(workspace / "params.yaml")
    raw = workspace / "data/raw/a"
    for number in range(80):
        (raw / f"class {number % 2}").mkdir(parents=True, exist_ok=True)
        picture(number).save(raw / f"class {number % 2}" / f"{number}.png")
    scan.run(raw=raw, out=workspace / "scanned/a", scan=params.scan, modality="images")
    (workspace / "batches.yaml").write_text("batches: [a]", "utf-8")
    (workspace / "classes.json").write_text('{"version": 0, "classes": {}}', "utf-8")
    sections = {"validate": params.validate_, "scan": params.scan, "modality": "images"}
    folders = {"batches": workspace / "batches.yaml"} | sections
    registry = workspace / "classes.json"
    validate.run(
        scanned=workspace / "scanned", registry=registry, corrections=workspace / "corrections.csv",
        out=workspace / "validated", adapt=params.adapt, **folders
    )  # fmt: skip
    data_docs.run(validated=workspace / "validated", out=tmp_path / "docs", **folders)
    [page] = (tmp_path / "docs/validations/samples").rglob("*.html")
    assert "graftline.class_fraction.label" in page.read_text("utf-8")
    assert (tmp_path / "docs/index.html").is_file()
