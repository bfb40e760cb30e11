import json

import pytest

from tasks.data.admission.registry import Registry, continues, declared, read_registry
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import Several


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
        {"version": 1, "classes": {"label": {"kind": ["number"]}}},
        {"version": 1, "classes": {"label": {"kind": "several", "labels": ["cat"], "columns": 3}}},
    ],
)
def test_error_for_a_damaged_registry_names_it(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=r"classes\.json is damaged, expected .* restore it with git"):
        read_registry(path)


def test_registry_has_no_more_of_a_target_than_it_declares():
    targets = [
        Number(measure="degrees", centre=3.0, scale=2.0, interval=(-1.0, 1.0)),
        Several(("a", "b"), separator=";", slopes=(1.0, 1.0), shifts=(0.0, 0.0), thresholds=(0.5, 0.5)),
        Ordinal(("low", "high")), Classes(("cat", "dog")),
    ]  # fmt: skip
    assert [declared(target.facts()) for target in targets] == [target.declared() for target in targets]


@pytest.mark.parametrize(
    ("facts", "registered", "does"),
    [
        (["a", "b"], ["a"], True),
        (["b", "a"], ["a"], False),
        ({"kind": "several", "labels": ["a", "b"]}, {"kind": "several", "labels": ["a"]}, True),
        ({"kind": "several", "labels": ["a"]}, ["a"], False),
        ({"kind": "ordinal", "steps": ["a", "b", "c"]}, {"kind": "ordinal", "steps": ["a", "b"]}, False),
        ({"kind": "number", "unit": "m"}, {"kind": "number", "unit": ""}, True),
    ],
)
def test_target_continues_what_is_registered(facts, registered, does):
    assert continues(facts, registered=registered) is does
