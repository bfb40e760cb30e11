import pandas as pd
import pytest

from tasks.data.manifest.manifest import domains_of, read_manifest
from tasks.data.manifest.tables import write_table
from tasks.targets.classes import MISSING, Classes


def test_batches_are_read_in_the_requested_order(tmp_path):
    for batch in "ab":
        write_table(tmp_path / f"{batch}.parquet", pd.DataFrame({"batch": [batch, batch], "path": ["1", "2"]}))
    assert read_manifest(tmp_path, ["b", "a"])["batch"].tolist() == ["b", "b", "a", "a"]


def test_error_for_a_listed_batch_without_a_manifest_names_its_file(tmp_path):
    write_table(tmp_path / "a.parquet", pd.DataFrame({"batch": ["a"]}))
    with pytest.raises(ValueError, match=r"b\.parquet is missing, though batch b is listed"):
        read_manifest(tmp_path, ["a", "b"])


def test_error_for_a_torn_manifest_names_its_file(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, pd.DataFrame({"batch": ["a"]}))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.parquet"):
        read_manifest(tmp_path, ["a"])


def test_equal_tables_give_equal_bytes(tmp_path):
    for name in "ab":
        write_table(tmp_path / name, pd.DataFrame({"path": ["1", "2"], "width": [3, 4]}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_label_becomes_its_index_among_the_classes_and_no_label_is_missing():
    assert Classes(("dog", "cat")).encode(pd.Series(["dog", None, "cat"])).tolist() == [0, MISSING, 1]


def test_error_for_a_label_outside_the_classes_names_it():
    with pytest.raises(ValueError, match="the manifest has class 'eel', expected one of dog, cat"):
        Classes(("dog", "cat")).encode(pd.Series(["dog", "eel"]))


def test_domain_of_a_sample_is_its_batch_where_the_manifest_names_none():
    table = pd.DataFrame({"batch": ["a", "a", "b"], "domain": ["sea", None, None]}).astype({"domain": "str"})
    assert domains_of(table).tolist() == ["sea", "a", "b"]
    assert domains_of(table.drop(columns="domain")).tolist() == ["a", "a", "b"]
