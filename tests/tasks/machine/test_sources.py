"""The code that a result depends on."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tasks.machine import sources
from tasks.machine.sources import deps, digest, reached, renewed

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
def code(tree, monkeypatch):
    """Write a verb that imports a module, and return the digest of the verb."""

    def of(text):
        monkeypatch.setattr(sources, "ROOT", tree("tasks/room/core.py", text))
        monkeypatch.setattr(sources, "reached", partial(reached, root=sources.ROOT))
        tree("tasks/verb.py", "from tasks.room.core import work\n\nwork()\n")
        return digest("tasks.verb")

    return of


def test_digest_changes_with_any_code_that_is_imported(code):
    assert (
        len({code("def work():\n    return 1\n"), code("def work():\n    return 2\n"), code("def work(): ...\n")}) == 3
    )


def test_comment_docstring_and_layout_do_not_count(code):
    plain = code("def work():\n    return 1\n")
    assert code('"""A module."""\n\n\ndef work():\n    """Return one."""\n    return (1)  # why\n') == plain


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


def test_folder_of_which_all_is_reached_stands_for_its_files(tree):
    tree("tasks/whole/a.py", "x = 1\n")
    tree("tasks/whole/b.py", "x = 1\n")
    tree("tasks/part/a.py", "x = 1\n")
    tree("tasks/part/b.py", "x = 1\n")
    root = tree("tasks/verb.py", "from tasks.whole import a, b\nfrom tasks.part import a as c\n")
    assert deps("tasks.verb", root=root) == ["tasks/verb.py", "tasks/part/a.py", "tasks/whole"]


def test_templates_beside_a_module_belong_to_it(tree):
    tree("tasks/page/other.py", "x = 1\n")
    root = tree("tasks/page/render.py", "x = 1\n")
    (root / "tasks/page/template").mkdir()
    tree("tasks/verb.py", "import tasks.page.render\n")
    assert deps("tasks.verb", root=root) == ["tasks/verb.py", "tasks/page/render.py", "tasks/page/template"]


def test_deps_of_dvc_yaml_are_renewed_and_all_else_stays(tree):
    tree("tasks/room/core.py", "x = 1\n")
    tree("tasks/rules.py", "x = 1\n")
    root = tree("tasks/verb.py", "import tasks.room.core\n")
    (root / "tests").mkdir()
    (root / "tests/test_rule.py").write_text("from tasks.rules import x\n", "utf-8")
    before = (
        "# a comment\nstages:\n  verb:\n    cmd: exec python -m tasks.verb --out x\n"
        "    deps:\n      - data/in\n      - tests\n      - tasks/gone.py\n    outs:\n      - x\n"
    )
    after = before.replace(
        "      - tasks/gone.py\n", "      - tasks/verb.py\n      - tasks/room\n      - tasks/rules.py\n"
    )
    assert renewed(before, root=root) == after
    assert renewed(after, root=root) == after


def test_no_warm_store_misses_a_change_of_any_module(tmp_path):
    """One number or operator of every module that runs is changed in a copy. A warm run equals a cold run."""
    command = [sys.executable, "-m", "benchmarks.kit.warm_and_cold", str(tmp_path), "--most", "1"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=280)
    modules = {facts["module"]: facts for facts in map(json.loads, done.stdout.splitlines())}
    assert [name for name, facts in modules.items() if facts["stale"]] == []
    rooms = {"embedding": ("embedder", "engine"), "images": ("alterations", "augment", "copy_hash", "transform")}
    changing = {f"tasks.{room}.{name}" for room, names in rooms.items() for name in names} | {"tasks.embed"}
    assert [name for name in changing if not modules[name]["touches"]] == [], "the changes change nothing"
