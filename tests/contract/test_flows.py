"""The flows narrate the stages of dvc.yaml, read artifact paths from it, and start DVC and git in one module each."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from flows.sharing.publish import GIVEN
from flows.workspace.paths import stages

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "flows").rglob("*.py"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]


def strings(module):
    """Yield the string literals of a module, those inside f-strings too, with their lines."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def words_of_commands(module):
    """Return the strings that stand in a list of a module, as the words of each command do."""
    commands = [node for node in ast.walk(ast.parse(module.read_text("utf-8"))) if isinstance(node, ast.List)]
    return {word.value for command in commands for word in command.elts if isinstance(word, ast.Constant)}


def test_flow_narrates_every_stage_after_those_it_depends_on():
    names = stages(ROOT / "dvc.yaml")
    assert names == list(STAGES)
    owners = {out.split("/${")[0]: name for name, stage in STAGES.items() for out in stage["outs"]}
    for name, stage in STAGES.items():
        for dependency in stage["deps"]:
            makers = [owner for out, owner in owners.items() if dependency == out or dependency.startswith(f"{out}/")]
            assert all(names.index(maker) < names.index(name) for maker in makers), (name, dependency)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_flows_do_not_know_where_artifacts_lie(module):
    """No string is a path below data/; a docstring or a sentence may name one for a person."""
    for line, text in strings(module):
        assert not re.fullmatch(r"\.?/?data/[^\s]*", text), f"{module.name}:{line}: {text}"


@pytest.mark.parametrize("program", ["dvc", "git"])
def test_program_is_started_by_one_module_alone(program):
    starters = [module for module in MODULES if program in words_of_commands(module)]
    assert starters == [ROOT / f"flows/workspace/{program}.py"]


def test_sources_that_a_stage_reads_are_checked_before_a_run_is_published():
    read = {Path(dependency) for stage in STAGES.values() for dependency in stage["deps"]}
    sources = {path for path in read if path.parts[0] != "data"}
    assert [path for path in sources if not any(path.is_relative_to(given) for given in GIVEN)] == []
