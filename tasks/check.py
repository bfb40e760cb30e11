"""Check what a person writes by hand, before any stage runs: params.yaml and the list of batches."""

from pathlib import Path

from tasks.data.manifest.batches import read_batches
from tasks.stage.main import PARAMS, main
from tasks.stage.params import load_params


def run(*, batches: Path | None, params: Path | None) -> None:
    """Fail with one line if params.yaml, or the list of batches where one is named, is wrong."""
    load_params(params or PARAMS)
    if batches is not None:
        read_batches(batches)


if __name__ == "__main__":
    main(run)
