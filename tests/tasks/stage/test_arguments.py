"""Help of the verbs: it explains every argument, and needs nothing that a verb works with."""

import sys
from pathlib import Path

import pytest

from tasks.stage.arguments import moved, verb_of
from tests.kit.programs import run, run_module

ROOT = Path(__file__).parents[3]
FILES = [*(ROOT / "tasks").glob("*.py"), *(ROOT / "tasks/demo").glob("*.py")]
VERBS = sorted(path for path in FILES if "\ndef run(" in path.read_text("utf-8"))


@pytest.mark.parametrize("file", VERBS, ids=lambda path: path.stem)
def test_help_of_a_verb_explains_every_argument(file):
    actions = verb_of(file, has_params=True).parser._actions
    assert [action.dest for action in actions if not action.help] == []


def test_help_of_a_verb_imports_nothing_that_it_works_with():
    for verb in ("evaluate", "predict"):
        done = run(sys.executable, "-X", "importtime", "-m", f"tasks.{verb}", "--help", cwd=ROOT)
        assert f"python -m tasks.{verb}" in done.stdout
        imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
        assert imported & {"torch", "pandas", "pydantic"} == set()


def test_arguments_come_from_the_signature_and_other_parameters_are_sections():
    verb = verb_of(ROOT / "tasks/prune.py", has_params=False)
    arguments = verb.parser.parse_args(["--store", "s", "--unused-since", "2026-01-31", "--damaged"])
    assert (arguments.store, arguments.damaged, arguments.recipe) == (Path("s"), True, None)
    assert str(arguments.unused_since) == "2026-01-31"
    assert verb_of(ROOT / "tasks/evaluate.py", has_params=True).sections == ["evaluate", "modality", "seed"]


def test_verbs_are_listed_with_what_they_do():
    listed = {line.split()[0] for line in run_module("tasks", cwd=ROOT).stdout.splitlines() if line.startswith("  ")}
    assert listed == {path.stem for path in (ROOT / "tasks").glob("*.py")} - {"__init__", "__main__"}


def test_an_export_has_the_formats_that_predict_offers():
    from tasks import predict
    from tasks.prediction import export

    assert predict.FORMATS == export.FORMATS
    with pytest.raises(SystemExit):
        predict.parse(["bundle", "--export", "pickle", "-o", "model"])


def test_variable_moves_a_folder_of_a_stage_and_of_nothing_that_a_person_types(monkeypatch):
    verb = verb_of(ROOT / "tasks/finetune.py", has_params=True)
    monkeypatch.setenv("GRAFTLINE_SCRATCH", "/elsewhere")
    monkeypatch.setenv("GRAFTLINE_STORE", "/unused")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert moved(verb) == {}
    monkeypatch.setenv("DVC_STAGE", "finetune")
    assert moved(verb) == {"scratch": Path("/elsewhere")}
    monkeypatch.setenv("GRAFTLINE_SCRATCH", "")
    assert moved(verb) == {}
