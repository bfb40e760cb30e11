import json

import pytest

from tasks.data.admission.registry import Registry, read_registry


def test_registry_is_read(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps({"version": 2, "classes": {"label": ["dog", "cat"]}}), "utf-8")
    assert read_registry(path) == Registry(version=2, classes={"label": ["dog", "cat"]})


def test_error_for_a_missing_registry_names_it(tmp_path):
    with pytest.raises(ValueError, match=r"classes\.json is missing: restore it with git"):
        read_registry(tmp_path / "classes.json")


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_error_for_a_file_that_is_not_json_names_it(tmp_path, content):
    (tmp_path / "classes.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"classes\.json is damaged, expected .* restore it with git"):
        read_registry(tmp_path / "classes.json")


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"classes": {}},
        {"version": 1, "classes": {"label": "cat"}},
        {"version": 1, "classes": {"label": ["cat", "cat"]}},
        {"version": 1, "classes": {"label": [1]}},
        {"version": "1", "classes": {}},
        {"version": 1, "classes": 3},
        {"version": 1, "classes": []},
    ],
)
def test_error_for_a_damaged_registry_names_it(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=r"classes\.json is damaged, expected .* restore it with git"):
        read_registry(path)
