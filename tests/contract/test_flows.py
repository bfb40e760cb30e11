"""The flows narrate the stages of dvc.yaml, and only one module of them starts DVC."""

from pathlib import Path

import yaml

from flows.sharing.publish import GIVEN
from flows.workspace.dvc import stages

ROOT = Path(__file__).parents[2]


def test_flow_narrates_every_stage_after_those_it_depends_on():
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    names = stages(ROOT / "dvc.yaml")
    assert names == list(declared)
    owners = {out.split("/${")[0]: name for name, stage in declared.items() for out in stage["outs"]}
    for name, stage in declared.items():
        for dependency in stage["deps"]:
            makers = [owner for out, owner in owners.items() if dependency == out or dependency.startswith(f"{out}/")]
            assert all(names.index(maker) < names.index(name) for maker in makers), (name, dependency)


def test_only_repro_starts_dvc():
    for module in (ROOT / "flows").glob("*.py"):
        if module.name != "repro.py":
            assert '"dvc"' not in module.read_text("utf-8"), module.name


def test_whatever_a_stage_reads_and_no_run_records_is_looked_at_before_a_run_is_published():
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    read = {Path(dependency) for stage in declared.values() for dependency in stage["deps"]}
    of_persons = {path for path in read if path.parts[0] != "data"}
    assert [path for path in of_persons if not any(path.is_relative_to(given) for given in GIVEN)] == []
