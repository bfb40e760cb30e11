"""How much retraining alone changes, measured on a real project."""

import json

from tests.kit.programs import git, run_module


def run(folder, *command):
    done = run_module(*command, status=None, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_retrainings_with_other_seeds_leave_a_budget_and_nothing_else(project, dvc):
    """Beside a model in use, which no stage makes."""
    assert run(project, "flows.promote")[0] == 0
    before = {path.name: path.read_bytes() for path in (project / "data/evaluation").iterdir()}
    status, said = run(project, "flows.churn", "--retrainings", "3")
    assert status == 0, said
    found = json.loads((project / "data/churn.json").read_text("utf-8"))["label"]
    assert 0 <= found["mean"] <= found["highest"] <= 1
    assert f"regression.max_negative_flips: {found['budget']:.4f}" in said or "agree on every answer" in said
    assert {path.name: path.read_bytes() for path in (project / "data/evaluation").iterdir()} == before
    assert dvc(project, "exp", "list", "--name-only").strip() == ""
    assert git("status", "--porcelain", folder=project) == "?? data/churn.json\n"


def test_fewer_than_three_retrainings_are_refused(project):
    status, said = run(project, "flows.churn", "--retrainings", "2")
    assert (status, said) == (1, "error: --retrainings is 2, expected at least 3: fewer say too little\n")
