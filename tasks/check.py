"""Check params.yaml and the list of batches before any stage runs."""

from pathlib import Path

from tasks.data.manifest.batches import read_batches
from tasks.stage.main import main


def run(*, batches: Path | None) -> None:
    """Check the list of batches; `tasks.stage` has checked params.yaml before."""
    if batches is not None:
        read_batches(batches)


if __name__ == "__main__":
    main(run)
