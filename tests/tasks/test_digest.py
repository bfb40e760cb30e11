"""The stage that follows the imports of each verb."""

import pytest

from tasks.digest import run


@pytest.fixture
def digests(tmp_path):
    """A function that writes a module of a small project, and returns the digest of each verb."""

    def after(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        run(code=tmp_path / "tasks", tests=tmp_path / "tests", out=tmp_path / "out", modality="images")
        return {digest.name: digest.read_text("utf-8") for digest in (tmp_path / "out").iterdir()}

    after("tasks/scan.py", "from tasks import reading\n")
    after("tasks/judge.py", "from tasks import judging\n")
    after("tests/test_rule.py", "from tasks import judging\n")
    after("tasks/reading.py", "x = 1\n")
    after("tasks/judging.py", "x = 1\n")
    return after


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def test_change_of_a_module_changes_the_digests_of_the_verbs_that_run_it(digests):
    before = digests("tasks/__init__.py", "")
    assert changed(before, digests("tasks/reading.py", "x = 2\n")) == {"scan", "reading"}


def test_what_the_tests_of_the_gate_import_counts_too(digests):
    before = digests("tasks/__init__.py", "")
    assert changed(before, digests("tasks/judging.py", "x = 2\n")) == {"judge", "judging", "tests"}


def test_comment_changes_no_digest(digests):
    before = digests("tasks/__init__.py", "")
    assert digests("tasks/reading.py", "x = 1  # one\n") == before


def test_link_that_an_editor_leaves_for_a_file_that_is_open_counts_for_nothing(digests, tmp_path):
    before = digests("tasks/__init__.py", "")
    for folder in ("tasks", "tests"):
        (tmp_path / folder / ".#scan.py").symlink_to("somebody@somewhere.1")
    assert digests("tasks/__init__.py", "") == before
