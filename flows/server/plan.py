"""Read prefect.yaml, the plan of what runs when. A served run takes its parameters from there alone."""

import inspect
import os
import re
from pathlib import Path
from typing import Any

import yaml

from flows.workspace.redaction import in_a_line

PLAN = Path("prefect.yaml")
VARIABLE = re.compile(r"{{\s*\$(\w+)\s*}}")  # as `prefect deploy` fills it in


def read_plan(path: Path = PLAN) -> dict[str, dict[str, Any]]:
    """Return the deployments of the file by name, as they are written.

    Raises:
        ValueError: the file is missing or wrong; the message is one line.
    """
    try:
        plan = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no {path} in {Path.cwd()}: run from the root of the repository") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {in_a_line(error)}") from None
    entries = plan.get("deployments") if isinstance(plan, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} has no list `deployments`: see the file that the repository came with")
    deployments: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(entries, start=1):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise ValueError(f"{path}: deployment {number} has no name")
        if name in deployments:
            raise ValueError(f"{path}: two deployments are called {name}: give each a name of its own")
        deployments[name] = entry
    return deployments


def filled(value: Any) -> Any:
    """Replace each {{ $NAME }} by the environment's value. Raises ValueError where the environment has none."""
    if isinstance(value, dict):
        return {key: filled(part) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part) for part in value]
    return VARIABLE.sub(_from_environment, value) if isinstance(value, str) else value


def check_planned(flow: Any) -> None:
    """Refuse parameters that were changed at the server: they could name another landing or more secrets.

    A run that a person starts in the shell may have any parameters.

    Raises:
        ValueError: prefect.yaml gives the run's deployment, its schedules and its triggers other parameters.
    """
    from prefect.runtime import deployment, flow_run

    if deployment.id is None:
        return
    plan = read_plan()
    if deployment.name not in plan:
        raise ValueError(f"{PLAN} has no deployment {deployment.name!r}: only those that it has may start runs here")
    defaults = {parameter.name: parameter.default for parameter in inspect.signature(flow.fn).parameters.values()}
    given = defaults | flow_run.parameters
    planned = [defaults | parameters for parameters in parameters_of(filled(plan[deployment.name]))]
    if given not in planned:
        name = next(name for name, value in given.items() if value != planned[0][name])
        raise ValueError(
            f"this run has {name}: {given[name]!r}, expected {planned[0][name]!r}, as {PLAN} has it: a run at the "
            "server cannot choose; change the file, then start `flows.serve` again"
        )


def parameters_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters that runs of a deployment may have: its own, and those of each schedule and trigger."""
    usual = entry.get("parameters") or {}
    starts = [*(entry.get("schedules") or []), *(entry.get("triggers") or [])]
    return [usual, *(usual | (start.get("parameters") or {}) for start in starts)]


def _from_environment(variable: re.Match[str]) -> str:
    name = variable[1]
    if not os.environ.get(name):
        raise ValueError(f"{name} is not set in the environment, and the file asks for it: export {name}=…")
    return os.environ[name]
