from pathlib import Path

import pytest

from tasks.machine.yaml_text import parse_yaml, read_yaml


def test_key_given_twice_is_refused_with_its_lines():
    with pytest.raises(
        ValueError, match=r"p\.yaml gives the key 'flip' twice, in lines 2 and 4, expected each key once"
    ):
        parse_yaml("tune:\n  flip: true\n  size: 3\n  flip: false\n", path=Path("p.yaml"))


def test_same_key_in_two_sections_is_read():
    assert parse_yaml("a: {size: 1}\nb: {size: 2}\n", path=Path("p.yaml")) == {"a": {"size": 1}, "b": {"size": 2}}


def test_text_that_is_not_yaml_is_refused_in_a_line():
    with pytest.raises(ValueError, match=r"^p\.yaml is not YAML: [^\n]+$"):
        parse_yaml("a: [1", path=Path("p.yaml"))


@pytest.mark.parametrize("text", ["[" * 300_000, "- " * 300_000, "? " * 300_000, "{a: " * 300_000])
def test_text_that_nests_too_deep_is_refused(text):
    with pytest.raises(ValueError, match=r"^p\.yaml is not YAML: [^\n]+$"):
        parse_yaml(text, path=Path("p.yaml"))


def test_file_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ValueError, match=r"p\.yaml is not UTF-8"):
        read_yaml(tmp_path / "p.yaml")
