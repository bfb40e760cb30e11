import pandas as pd
import pytest

from tasks.data.health.leaks import COLUMNS, LEAKED, LEAKS, is_leaked, leaves_training

MANIFEST = pd.DataFrame({"sample_id": ["0012", "w", "x", "y"], "split": ["train", "val", "heldout", "heldout"]})


def write(folder, name, ids):
    pd.DataFrame([{"sample_id": sample_id} for sample_id in ids], columns=COLUMNS).to_csv(folder / name, index=False)


def test_samples_in_the_tables_are_marked(tmp_path):
    write(tmp_path, LEAKS, ["0012"])
    write(tmp_path, LEAKED, ["y", "x"])
    assert leaves_training(MANIFEST, tmp_path).tolist() == [True, False, False, False]
    assert is_leaked(MANIFEST, tmp_path).tolist() == [False, False, True, True]


def test_empty_table_marks_no_sample(tmp_path):
    write(tmp_path, LEAKS, [])
    assert not leaves_training(MANIFEST, tmp_path).any()


def test_missing_table_is_reported_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"leaks\.csv is missing: run audit, or `dvc pull audit`"):
        leaves_training(MANIFEST, tmp_path)


def test_table_of_another_manifest_is_refused(tmp_path):
    write(tmp_path, LEAKED, ["x", "gone"])
    with pytest.raises(ValueError, match=r"leaked\.csv names 2 samples, of which the manifest has 1: run audit again"):
        is_leaked(MANIFEST, tmp_path)
