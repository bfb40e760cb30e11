"""The code that a result depends on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.machine import sources
from tasks.machine.sources import digest, imported_by, reached

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path):
    """A small project; write("tasks/a.py", "…") puts a module into it."""

    def write(path, text):
        file = tmp_path / path
        for folder in [*file.parents][::-1]:
            if folder.is_relative_to(tmp_path / "tasks"):
                folder.mkdir(exist_ok=True)
                (folder / "__init__.py").touch()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return tmp_path

    return write


@pytest.fixture
def code(tree):
    """Write a verb that imports a module, and return the digest of the verb."""

    def of(text):
        root = tree("tasks/room/core.py", text)
        tree("tasks/verb.py", "from tasks.room.core import work\n\nwork()\n")
        return digest("tasks.verb", root=root)

    return of


def test_digest_changes_with_any_code_that_is_imported(code):
    assert (
        len({code("def work():\n    return 1\n"), code("def work():\n    return 2\n"), code("def work(): ...\n")}) == 3
    )


def test_comment_docstring_and_layout_do_not_count(code):
    plain = code("def work():\n    return 1\n")
    assert code('"""A module."""\n\n\ndef work():\n    """Return one."""\n    return (1)  # why\n') == plain


@pytest.mark.parametrize("kept", ["its own", "that of another content", "{", "[]", ""])
def test_digest_is_the_same_where_knowledge_of_a_file_is_kept_and_where_it_is_not(code, tree, monkeypatch, kept):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    first = code("def work():\n    return 1\n")
    [file] = tree("unused.txt", "").glob("tasks/room/__pycache__/core.*.json")
    known = {"its own": file.read_text("utf-8")}
    other = code("def work():\n    return 2\n")
    known["that of another content"] = file.read_text("utf-8")
    file.write_text(known.get(kept, kept), "utf-8")
    sources._known.cache_clear()
    sources._by_content.clear()
    assert code("def work():\n    return 1\n") == first != other
    assert file.read_text("utf-8") == known["its own"]


def test_imports_inside_functions_and_through_packages_are_followed(tree):
    tree("tasks/room/deep.py", "x = 1\n")
    tree("tasks/room/lazy.py", "def f():\n    from tasks.room import deep\n    return deep.x\n")
    root = tree("tasks/verb.py", "import tasks.room.lazy\n")
    assert reached("tasks.verb", root=root) == ["tasks/room/deep.py", "tasks/room/lazy.py", "tasks/verb.py"]


def test_package_with_code_of_its_own_counts(tree):
    tree("tasks/room/a.py", "x = 1\n")
    tree("tasks/room/__init__.py", "y = 2\n")
    root = tree("tasks/verb.py", "from tasks.room.a import x\n")
    assert "tasks/room/__init__.py" in reached("tasks.verb", root=root)


def test_plumbing_is_not_followed(tree):
    tree("tasks/room/hidden.py", "x = 1\n")
    tree("tasks/stage/main.py", "import tasks.room.hidden\n")
    tree("tasks/machine/progress.py", "x = 1\n")
    root = tree("tasks/verb.py", "import tasks.stage.main\nimport tasks.machine.progress\n")
    assert reached("tasks.verb", root=root) == ["tasks/verb.py"]


def test_templates_beside_a_module_belong_to_it(tree):
    root = tree("tasks/page/render.py", "x = 1\n")
    (root / "tasks/page/template").mkdir()
    template = root / "tasks/page/template/page.html"
    template.write_text("<p>", "utf-8")
    tree("tasks/verb.py", "import tasks.page.render\n")
    before = digest("tasks.verb", root=root)
    template.write_text("<b>", "utf-8")
    assert digest("tasks.verb", root=root) != before


def test_only_the_rooms_of_the_modality_count(tree):
    root = tree("tasks/verb.py", "def run(modality):\n    return room(modality, 'decode')\n")
    tree("tasks/images/decode.py", "x = 1\n")
    tree("tasks/text/decode.py", "x = 1\n")

    def of(modality):
        return digest("tasks.verb", modalities=[modality], root=root)

    before = of("images"), of("text")
    tree("tasks/text/decode.py", "x = 2\n")
    assert of("images") == before[0]
    assert of("text") != before[1]


def test_module_that_is_no_python_is_named_with_its_line(code):
    with pytest.raises(ValueError, match=r"core.py, line 1: .*mend it"):
        code("def work(:\n")


def test_imports_of_tests_are_found(tree):
    root = tree("tests/regression/test_rule.py", "from tasks.rules import x\n")
    assert imported_by(root / "tests") == ["tasks", "tasks.rules", "tasks.rules.x"]


def test_no_warm_store_misses_a_change_of_any_module(tmp_path):
    """One number or operator of every module that runs is changed in a copy. A warm run equals a cold run."""
    command = [sys.executable, "-m", "benchmarks.kit.warm_and_cold", str(tmp_path), "--most", "1"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=280)
    modules = {facts["module"]: facts for facts in map(json.loads, done.stdout.splitlines())}
    assert [name for name, facts in modules.items() if facts["stale"]] == []
    rooms = {"embedding": ("embedder", "engine"), "images": ("alterations", "augment", "copy_hash", "transform")}
    changing = {f"tasks.{room}.{name}" for room, names in rooms.items() for name in names} | {"tasks.embed"}
    assert [name for name in changing if not modules[name]["touches"]] == [], "the changes change nothing"
