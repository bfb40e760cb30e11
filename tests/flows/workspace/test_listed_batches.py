"""The names of batches and the list of them."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.workspace.batches import append, fit_name, free_name, listed, loose_ends, tracked
from tasks.data.manifest.batches import NAME, read_batches

RAW, LISTED = Path("data/raw"), Path("data/batches.yaml")


@pytest.fixture
def here(bare_workspace):
    RAW.mkdir(parents=True)
    LISTED.write_text("batches: []\n", "utf-8")


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("2026-11", "2026-11"),
        ("Été à la plage", "Ete-a-la-plage"),
        ("a\nb", "a-b"),
        ("-rf", "rf"),
        ("写真", "batch"),
        ("x.dvc", "x-dvc"),
        ("my data.parquet", "my-data.parquet"),
        (f"{'n' * 255}.csv", f"{'n' * 96}.csv"),
        ("n" * 255, "n" * 100),
    ],
)
def test_name_is_made_fit(name, fit):
    assert fit_name(name) == fit


@given(st.text(min_size=1))
def test_any_name_is_made_fit_for_the_list_once_and_for_all(name):
    fit = fit_name(name)
    assert NAME.fullmatch(fit)
    assert len(fit) <= 100
    assert fit_name(fit) == fit


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# why\nbatches: []\n", '# why\nbatches: ["b"]\n'),
        ('batches: ["a"]  # first\nother: 1\n', 'batches: ["a", "b"]  # first\nother: 1\n'),
        ('batches: [\n  "a",  # one\n]\n', 'batches: [\n  "a", "b",  # one\n]\n'),
        ('batches:\n  - "a"  # one\n# end\n', 'batches:\n  - "a"  # one\n  - "b"\n# end\n'),
        ("batches:\n- a", 'batches:\n- a\n- "b"'),
        ("batches:\r\n- a\r\n", 'batches:\r\n- a\r\n- "b"\r\n'),
    ],
)
def test_batch_is_appended_and_every_other_byte_stays(here, before, after):
    LISTED.write_bytes(before.encode())
    append("b")
    append("b")
    assert LISTED.read_bytes().decode() == after
    assert read_batches(LISTED)[-1] == "b"


def test_name_that_looks_like_a_date_stays_a_name(here):
    append("2026-11-20")
    assert read_batches(LISTED) == listed() == ["2026-11-20"]


@pytest.mark.parametrize("text", ["", "batches: a\n", "batches: [\n"])
def test_damaged_list_is_refused_and_left_alone(here, text):
    LISTED.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"batches\.yaml"):
        append("b")
    assert LISTED.read_text("utf-8") == text


def test_taken_name_gets_the_contents_hash_unless_that_is_taken_too(here):
    assert free_name("a", "0123456789") == "a"
    append("a")
    assert free_name("a", "0123456789") == "a-01234567"
    (RAW / "b.parquet").touch()
    assert free_name("b.parquet", "0123456789") == "b-01234567.parquet"
    (RAW / "b.csv").touch()
    assert free_name("b.csv", "0123456789") == "b-01234567.csv"
    (RAW / "a-01234567.dvc").touch()
    with pytest.raises(ValueError, match="a-01234567 exists, and DVC does not track it"):
        free_name("a", "0123456789")


def test_damaged_dvc_file_and_unlisted_batch_are_reported(here):
    (RAW / "a.dvc").write_text(yaml.dump({"outs": [{"md5": "1", "path": "a"}]}), "utf-8")
    assert tracked() == {"1": "a"}
    (RAW / "b.dvc").touch()
    assert tracked() == {"1": "a"}
    unlisted, torn = loose_ends()
    assert unlisted == "a is in data/raw, but data/batches.yaml does not list it: list it, or remove its .dvc file"
    assert "b.dvc is not a DVC file: restore it with git, or remove it" in torn
    append("a")
    assert loose_ends() == [torn]
