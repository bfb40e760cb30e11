"""Small files that would fill the memory."""

import pandas as pd
import pytest

from benchmarks.kit.bombs import Bomb, bombs, planted

MORE_BYTES = 900 * 2**20  # of memory for a verb beside what its imports take; each bomb would take more
SAID = {
    "TIFF with one huge tile, scanned": "too_many_pixels",
    "TIFF with one huge tile, predicted": "too_many_pixels",
    "JPEG 2000 larger than it says, scanned": "too_many_pixels",
    "JPEG 2000 larger than it says, predicted": "too_many_pixels",
    "packed weights": "bomb.pth is packed",
    "bundle of a huge RegNet": "its weights do not fit",
}


@pytest.mark.parametrize("bomb", [bomb for bomb in bombs() if bomb.name in SAID], ids=lambda bomb: bomb.name)
def test_bomb_is_named_before_it_fills_the_memory(bomb: Bomb, shell_in):
    verb = bomb.command[0].removeprefix("tasks.")
    with planted(bomb) as folder:
        done = shell_in(folder, verb, *bomb.command[1:], max_more_bytes=MORE_BYTES)
        if bomb.is_sample:
            assert done.status == 0, done.stderr
            table = pd.read_parquet(folder / ("scanned/defects.parquet" if verb == "scan" else "out.parquet"))
            assert table["reason"].dropna().tolist() == [SAID[bomb.name]]
        else:
            assert SAID[bomb.name] in done.error
