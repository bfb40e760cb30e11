import numpy as np
import pandas as pd
import pytest

from benchmarks.growth import ROOT, commands, exponent, write_batch
from tasks.scan import run
from tasks.stage.params import load_params, section


def test_made_up_tables_are_those_that_scan_writes(tmp_path):
    write_batch(tmp_path, "first", np.arange(30))
    scan = section(load_params(ROOT / "params.yaml"), "scan")
    run(raw=tmp_path / "raw/first", out=tmp_path / "scanned", scan=scan, modality="images")
    for name in ("samples", "defects"):
        scanned, made_up = (
            pd.read_parquet(folder / f"{name}.parquet") for folder in (tmp_path / "scanned", tmp_path / "made_up/first")
        )
        pd.testing.assert_frame_equal(scanned, made_up)


def test_exponent_is_that_of_the_two_largest_sizes():
    seconds = {1_000: {"seconds": 5.0}, 100: {"seconds": 2.0}, 10_000: {"seconds": 50.0}}
    assert exponent(seconds) == pytest.approx(1)


def test_commands_are_those_of_the_stages():
    assert commands("adapt")[0][:2] == ["--manifests", "data/validated/manifest"]
    assert len({tuple(words) for words in commands("embed")}) == 5
