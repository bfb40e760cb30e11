"""dvc.yaml, params.yaml and the verbs say the same: every stage reads what it declares and declares what it reads."""

import ast
import importlib
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
MODULES = sorted((ROOT / "tasks").rglob("*.py"))


def command(stage):
    """The words of a stage's command; an example batch in place of the matrix's."""
    first, *words = shlex.split(example(STAGES[stage]["cmd"]))
    assert first == "exec"  # no shell stands between DVC and a stage
    return words


def example(text):
    return text.replace("${item.batch}", "2024-01").replace("${modality}", PARAMS["modality"])


def parameters(stage):
    """The parameters of the verb that the stage's command runs."""
    python, minus_m, module = command(stage)[:3]
    assert (python, minus_m) == ("python", "-m")
    return inspect.signature(importlib.import_module(module).run, eval_str=True).parameters


def options(stage):
    """Return the value that the command gives to each option."""
    words = command(stage)[3:]
    assert all(option.startswith("--") for option in words[::2])
    return dict(zip(words[::2], words[1::2], strict=True))


def declared_params(stage):
    """The keys of params.yaml that the stage depends on, such as `scan` or `scan.min_image_size`."""
    return [each for each in STAGES[stage].get("params", []) if isinstance(each, str)]


def declared_files(stage):
    """Return the keys that the stage depends on, by other file."""
    return {
        file: keys for each in STAGES[stage].get("params", []) if isinstance(each, dict) for file, keys in each.items()
    }


def is_declared(path, declared):
    """Whether a path is among the declared ones, or inside of one of them."""
    return any(path == each or path.startswith(f"{each}/") for each in declared)


@pytest.mark.parametrize("stage", STAGES)
def test_command_gives_every_path_that_the_verb_asks_for_and_no_other(stage):
    asked = {f"--{name.replace('_', '-')}" for name, each in parameters(stage).items() if each.annotation is Path}
    assert set(options(stage)) == asked


@pytest.mark.parametrize("stage", STAGES)
def test_command_means_the_same_in_every_shell(stage):
    """DVC starts the shell that $SHELL names; its own `${…}` are filled in before."""
    words = re.sub(r"(?<!\\)\$\{[^}]*\}", "", STAGES[stage]["cmd"])
    assert re.fullmatch(r"[\w ./-]+", words), words


@pytest.mark.parametrize("stage", STAGES)
def test_declared_params_exist(stage):
    for key in declared_params(stage):
        section, _, name = key.partition(".")
        assert section in PARAMS, key
        assert not name or name in PARAMS[section], key
    for file, keys in declared_files(stage).items():
        assert set(keys) <= set(yaml.safe_load((ROOT / file).read_text("utf-8"))), file


@pytest.mark.parametrize("stage", STAGES)
def test_sections_that_a_verb_takes_are_declared_and_no_other(stage):
    # no result depends on where the work is done
    taken = {name for name, each in parameters(stage).items() if each.annotation is not Path} - {"scale"}
    assert {key.partition(".")[0] for key in declared_params(stage)} == taken


@pytest.mark.parametrize("stage", STAGES)
def test_key_that_is_declared_alone_is_all_that_the_verb_uses_of_its_section(stage):
    alone = {key.partition(".")[0]: set() for key in declared_params(stage) if "." in key}
    for key in declared_params(stage):
        if "." in key:
            alone[key.partition(".")[0]].add(key.partition(".")[2])
    source = (ROOT / f"{command(stage)[2].replace('.', '/')}.py").read_text("utf-8")
    used = {section: set(re.findall(rf"\b{section}\.(\w+)", source)) for section in alone}
    assert used == alone


def test_a_change_of_what_is_adapted_to_trains_nothing_again():
    stages = {each for each in STAGES if any(key.startswith("adapt") for key in declared_params(each))}
    assert stages == {"validate", "adapt"}  # validate only checks the names, and writes the same bytes


def test_every_section_is_used_by_a_stage():
    # no result depends on these: preset says what the others were chosen for, ingest how a batch comes in, scale where
    # the work is done, choose which backbones are ranked, label what people label next
    names = set(PARAMS) - {"preset", "ingest", "scale", "choose", "label"}
    assert names == {key.partition(".")[0] for each in STAGES for key in declared_params(each)}


@pytest.mark.parametrize("stage", STAGES)
def test_outputs_are_given_to_the_command(stage):
    given = set(options(stage).values())
    assert {example(out) for out in STAGES[stage]["outs"]} <= given


@pytest.mark.parametrize("stage", STAGES)
def test_paths_given_to_the_command_are_declared(stage):
    """The exceptions are:

    - the raw batches, the model in use and the one that a training goes on from: manifest and records fix them;
    - the list of batches: a stage depends on a key of it;
    - the embedding store and the scratch folder: they save time and change no result;
    - the list of decisions and the anchor: a candidate that is judged again keeps its place, and its verdict.
    """
    declared = [example(each) for each in [*STAGES[stage]["deps"], *STAGES[stage]["outs"]]]
    by_content = {
        "embed": {"data/store"},
        "audit": {"data/scratch"},
        "train_head": {"data/raw"},
        "finetune": {"data/raw", "data/models/start", "data/scratch"},
        "adapt": {"data/raw", "data/store"},
        "evaluate": {"data/raw", "data/models/baseline", "data/store"},
        "regression": {"data/decisions.jsonl", "data/anchor.json"},
        "report": {"data/raw"},
    }.get(stage, set())
    for path in set(options(stage).values()) - by_content - set(declared_files(stage)):
        assert is_declared(path, declared), path


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "digest"])
def test_stage_depends_on_the_digest_of_its_verb_and_of_the_tests_that_it_runs(stage):
    """Without it results are stale. Another's digest reruns the stage for nothing."""
    [folder] = STAGES["digest"]["outs"]
    digests = {dep for dep in STAGES[stage]["deps"] if dep.startswith(f"{folder}/")}
    has_tests = any(dep.startswith("tests/") for dep in STAGES[stage]["deps"])
    names = {command(stage)[2].removeprefix("tasks."), *(["tests"] if has_tests else [])}
    assert digests == {f"{folder}/{name}" for name in names}


def test_no_stage_but_digest_depends_on_a_file_of_code():
    """A stage that watched such a file would rerun for a comment."""
    assert [stage for stage in STAGES if any(dep.startswith("tasks") for dep in STAGES[stage]["deps"])] == ["digest"]


def test_dvc_does_not_watch_the_options_and_links_of_an_editor():
    words = ["tasks/gate/options.py", "tasks/gate/.#wear.py", "tasks/.#scan.py", "tasks/gate/wear.py"]
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "check-ignore", *words], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    assert listed.split() == words[:3]


def test_outputs_are_left_to_dvc_by_git():
    outs = [example(out) for stage in STAGES.values() for out in stage["outs"]]
    files = sorted(out if Path(out).suffix else f"{out}/file" for out in outs)
    ignored = subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert sorted(ignored.stdout.split()) == files


def test_what_no_stage_makes_is_left_to_git():
    outs = [example(out) for stage in STAGES.values() for out in stage["outs"]]
    parents = [str(parent) for out in outs for parent in Path(out).parents]
    deps = {example(dep) for stage in STAGES.values() for dep in stage["deps"]}
    sources = {
        dep for dep in deps if not is_declared(dep, outs) and dep not in parents and not dep.startswith("data/raw/")
    }
    assert [each for each in sorted(sources) if not (ROOT / each).exists()] == []
    ignored = subprocess.run(["git", "check-ignore", *sources], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout == ""


def test_pictures_of_a_batch_are_not_in_git_but_its_pointer_is():
    def is_ignored(path):
        return subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False).returncode == 0

    assert is_ignored("data/raw/2024-01/cat/1.png")
    assert not is_ignored("data/raw/2024-01.dvc")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_does_not_know_where_artifacts_lie(module):
    """No string of it is a path of an artifact; sentences may name one, to tell a person what to do."""
    places = {Path(example(path)).parts[0] for stage in STAGES.values() for path in stage["outs"]}
    assert places == {"data"}
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_a_path = re.fullmatch(r"\.?/?data(/[^\s]*)?", node.value) and node.value != "data"
            assert not is_a_path, f"{module.name}:{node.lineno}: {node.value}"


def test_every_verb_with_a_stage_is_run_by_that_stage_alone():
    verbs = [command(stage)[2] for stage in STAGES]
    assert verbs == [f"tasks.{stage}" for stage in STAGES]
