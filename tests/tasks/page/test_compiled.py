"""Compiled templates are kept, and never used once anything that they depend on has changed."""

import sys

import jinja2
import pytest

from tasks.page.compiled import CompiledTemplates


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """Render a template in a new environment, and return the page, and whether the template was compiled for it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "environment.py").write_text("trims = False", "utf-8")

    def render(source="a {{ word }}", **options):
        cache = CompiledTemplates(tmp_path, code=[tmp_path / "environment.py"])
        loader = jinja2.DictLoader({"page": source})
        environment = jinja2.Environment(loader=loader, bytecode_cache=cache, autoescape=True, **options)
        compiled = []
        generate = environment._generate
        environment._generate = lambda *arguments, **named: compiled.append(1) or generate(*arguments, **named)
        return environment.get_template("page").render(word="<b>"), bool(compiled)

    return render


def test_template_is_compiled_once(rendered):
    assert rendered() == ("a &lt;b&gt;", True)
    assert rendered() == ("a &lt;b&gt;", False)


def test_changed_template_is_compiled_anew(rendered):
    rendered()
    assert rendered("the {{ word }}") == ("the &lt;b&gt;", True)


def test_template_is_compiled_anew_once_the_code_of_its_environment_has_changed(rendered, tmp_path):
    rendered("{% if word %}\nyes{% endif %}")
    (tmp_path / "environment.py").write_text("trims = True", "utf-8")
    assert rendered("{% if word %}\nyes{% endif %}", trim_blocks=True) == ("yes", True)


@pytest.mark.parametrize("size", [0, 20, 60])
def test_torn_file_is_compiled_anew(rendered, tmp_path, size):
    rendered()
    [file] = tmp_path.glob("*.jinja")
    file.write_bytes(file.read_bytes()[:size])
    assert rendered() == ("a &lt;b&gt;", True)
    assert rendered() == ("a &lt;b&gt;", False)


def test_folder_that_cannot_be_written_to_is_no_error(rendered, tmp_path):
    rendered()
    [file] = tmp_path.glob("*.jinja")
    file.unlink()
    file.mkdir()
    assert rendered() == ("a &lt;b&gt;", True)
