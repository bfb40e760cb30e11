"""`python -m flows.churn` measures on a real project how much retraining alone changes."""

import json

from tests.kit.programs import git, run_module


def run(folder, *command):
    done = run_module(*command, status=None, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_retrainings_with_other_seeds_leave_a_budget_and_no_other_file(project, dvc):
    """A model is in use, which no stage makes."""
    assert run(project, "flows.promote")[0] == 0
    before = {path.name: path.read_bytes() for path in (project / "data/evaluation").iterdir()}
    status, printed = run(project, "flows.churn", "--retrainings", "3")
    assert status == 0, printed
    measured = json.loads((project / "data/churn.json").read_text("utf-8"))["label"]
    assert 0 <= measured["mean"] <= measured["highest"] <= 1
    assert f"regression.max_negative_flips: {measured['budget']:.4f}" in printed or "agree on every answer" in printed
    assert {path.name: path.read_bytes() for path in (project / "data/evaluation").iterdir()} == before
    assert dvc(project, "exp", "list", "--name-only").strip() == ""
    assert git("status", "--porcelain", folder=project) == "?? data/churn.json\n"


def test_fewer_than_three_retrainings_are_refused(project):
    status, printed = run(project, "flows.churn", "--retrainings", "2")
    assert (status, printed) == (1, "error: --retrainings is 2, expected at least 3: fewer show too little\n")
