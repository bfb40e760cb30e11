"""Write the demo's data: scikit-learn's digits, 1,797 scans of real handwriting, as a batch of class folders."""

import logging
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.machine.files import whole_folder
from tasks.stage.shell import run_verb

logger = logging.getLogger("graftline")


def run(*, out: Path) -> None:
    """Write each scan (8 x 8 px, grey, light ink as in the data set) as `<digit>/<number>.png`."""
    from sklearn.datasets import load_digits  # costs a second

    digits = load_digits()
    with whole_folder(out) as folder:
        for name in digits.target_names:
            (folder / str(name)).mkdir()
        for number, (scan, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            pixels = np.round(scan * (255 / 16)).astype(np.uint8)
            # not compressed: zlib's bytes differ between processors
            Image.fromarray(pixels).save(folder / str(label) / f"{number:04d}.png", compress_level=0)
    logger.info("wrote %s scans to %s", f"{len(digits.images):,}", out)


if __name__ == "__main__":
    run_verb(run)
