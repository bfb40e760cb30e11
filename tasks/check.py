"""params.yaml and the list of batches in; nothing out: it fails where one of them is wrong, before any stage works."""

from pathlib import Path

from tasks.data.manifest.batches import read_batches
from tasks.stage.main import main


def run(*, batches: Path | None) -> None:
    """Check what a person writes by hand; `stage` has checked params.yaml by the time it comes here."""
    if batches is not None:
        read_batches(batches)


if __name__ == "__main__":
    main(run)
