"""DVC that writes the entry of a stage: the files are those that DVC writes by itself."""

import os
from pathlib import Path

import pytest

from flows.workspace.lean import HEAD, replaced
from tests.kit.programs import git, run_module

ROOT = Path(__file__).parents[3]
PIPELINE = """
vars: [batches.yaml]
stages:
  tune:
    cmd: exec cp tuned.yaml params.yaml
    deps: [tuned.yaml]
    outs: [params.yaml: {cache: false}]
  scan:
    matrix: {batch: "${batches}"}
    cmd: exec cp raw/${item.batch} "out ${item.batch}" # a line so long that DVC folds it, as those of all stages are
    deps: ["raw/${item.batch}"]
    params: [scan, rate]
    outs: ["out ${item.batch}"]
"""
TUNED = (
    "rate: {rate}\nscan: {{name: 'yes', tiny: 1e-05, none: null, many: [1, 2.50, '07'], text: \"a\\nb: 'c' # d\"}}\n"
)
ENTRY = "  scan@a:\n    cmd: a\n    outs:\n    - path: b\n      size: 1\n"


@pytest.fixture
def twins(tmp_path, monkeypatch, dvc):
    """Do the same in two projects, of which one has lean DVC, and return what dvc.lock is there."""
    places = {"lean": ["flows.workspace.lean", "dvc"], "alone": ["dvc"]}
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for place in places:
        (tmp_path / place / "raw").mkdir(parents=True)
        dvc(tmp_path / place, "init", "--no-scm", "--quiet")

    def both(change):
        for place, words in places.items():
            monkeypatch.chdir(tmp_path / place)
            change()
            run_module(*words, "repro")
        return [(tmp_path / place / "dvc.lock").read_text("utf-8") for place in places]

    return both


def land(*batches, rate=0.25):
    Path("dvc.yaml").write_text(PIPELINE, "utf-8")
    Path("tuned.yaml").write_text(TUNED.format(rate=rate), "utf-8")
    Path("batches.yaml").write_text(f"batches: {list(batches)}\n", "utf-8")
    for batch in batches:
        Path("raw", batch).write_text(batch, "utf-8")


def test_lock_file_is_what_dvc_writes_by_itself(twins):
    """Batch after batch, with params that a stage changes meanwhile, and after a person's edit."""
    lean, alone = twins(lambda: land("2026-11"))
    assert lean == alone
    assert "rate: 0.25" in lean
    lean, alone = twins(lambda: land("2026-11", "0", "no", rate=3e-7))
    assert lean == alone
    assert lean.count("3e-07") == 3

    def edit():
        land("no", "0")
        Path("dvc.lock").write_text("# mine\n" + Path("dvc.lock").read_text("utf-8"), "utf-8")

    lean, alone = twins(edit)
    assert lean == alone
    assert lean.startswith("# mine")


def test_output_that_git_has_come_to_track_since_the_stage_before_is_refused(tmp_path, monkeypatch, dvc):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    dvc(tmp_path, "init", "--quiet")
    Path("first").write_text("first", "utf-8")
    Path("second.sh").write_text("cp copy second && git add -f second\n", "utf-8")
    copy = "copy: {cmd: cp first copy, deps: [first], outs: [copy]}"
    second = "second: {cmd: sh second.sh, deps: [copy], outs: [second]}"
    Path("dvc.yaml").write_text(f"stages: {{{copy}, {second}}}\n", "utf-8")
    done = run_module("flows.workspace.lean", "dvc", "repro", status=None)
    assert "output 'second' is already tracked by SCM" in done.stdout + done.stderr
    assert Path("copy").read_text("utf-8") == "first"


def test_stages_run_in_a_repository_to_which_nothing_was_added_yet(twins):
    def begin():
        git("init", "--quiet")
        Path(".dvc/config").write_text("", "utf-8")
        land("2026-11")

    lean, alone = twins(begin)
    assert lean == alone


def test_run_cache_is_that_of_dvc_by_itself_and_an_earlier_run_comes_from_it(twins, tmp_path):
    first, _ = twins(lambda: land("2026-11"))
    twins(lambda: Path("raw/2026-11").write_text("other", "utf-8"))
    lean, alone = twins(lambda: Path("raw/2026-11").write_text("2026-11", "utf-8"))
    assert lean == alone == first
    runs = [{run.name for run in (tmp_path / place).glob(".dvc/cache/runs/*/*/*")} for place in ("lean", "alone")]
    assert runs[0] == runs[1]
    assert len(runs[0]) == 2


def test_dependency_that_is_gone_is_refused_though_its_earlier_run_is_known(twins, tmp_path, monkeypatch):
    twins(lambda: land("2026-11"))
    errors = []
    for place, words in (("lean", ["flows.workspace.lean", "dvc"]), ("alone", ["dvc"])):
        monkeypatch.chdir(tmp_path / place)
        Path("raw/2026-11").unlink()
        done = run_module(*words, "repro", "scan@2026-11", status=None)
        errors.append(done.stderr.replace(str(tmp_path / place), ""))
    assert errors[0] == errors[1]
    assert "raw/2026-11" in errors[0]


def test_entry_takes_the_place_of_the_last_one_or_is_new():
    other = ENTRY.replace("scan@a", "scan@ab")
    changed = ENTRY.replace("size: 1", "size: 2")
    assert replaced(HEAD, name="scan@a", entry=ENTRY) == HEAD + ENTRY
    assert replaced(HEAD + ENTRY, name="scan@ab", entry=other) == HEAD + ENTRY + other
    assert replaced(HEAD + ENTRY + other, name="scan@a", entry=changed) == HEAD + changed + other
    assert replaced(HEAD + other + ENTRY, name="scan@a", entry=changed) == HEAD + other + changed


@pytest.mark.parametrize(
    "text",
    [
        "", "<<<<<<< mine\n", HEAD + ENTRY + "datasets: []\n", HEAD + ENTRY + "\n" + ENTRY, HEAD + ENTRY[:-1],
        HEAD + ENTRY.replace("scan@a", '"scan@a"'), HEAD + ENTRY.replace("    ", "   "),
        HEAD + "  scan@a: {cmd: a}\n", HEAD + "  # mine\n" + ENTRY,
    ],
)  # fmt: skip
def test_unusual_lock_file_is_left_to_dvc(text):
    assert replaced(text, name="scan@a", entry=ENTRY) == ""
