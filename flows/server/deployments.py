"""prefect.yaml in; its deployments, as one process serves them, out. `prefect deploy` reads the same
file for the workers of a pool."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentTriggerTypes
from prefect.exceptions import MissingFlowError, ScriptError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.schedules import Cron, Interval, RRule, Schedule
from prefect.utilities.schema_tools.validation import validate
from pydantic import TypeAdapter, ValidationError

from flows.workspace.redaction import in_a_line, refuse_secrets

PLAN = Path("prefect.yaml")
KEYS = ("name", "entrypoint", "description", "version", "tags", "parameters", "schedules", "triggers", "concurrency_limit",
        "enforce_parameter_schema", "paused", "work_pool")  # fmt: skip
POOL = "work_pool"  # of workers alone
SCHEDULES: Mapping[str, Callable[..., Schedule]] = {"cron": Cron, "interval": Interval, "rrule": RRule}
VARIABLE = re.compile(r"{{\s*\$(\w+)\s*}}")  # as `prefect deploy` fills it in

Trigger: TypeAdapter[Any] = TypeAdapter(DeploymentTriggerTypes)


def read_deployments(path: Path = PLAN) -> list[RunnerDeployment]:
    """All of them. Raises ValueError where the file is not what is expected, in a line."""
    try:
        plan = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no {path} in {Path.cwd()}: run from the root of the repository") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {in_a_line(error)}") from None
    listed = plan.get("deployments") if isinstance(plan, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path} has no list `deployments`: see the one that the repository came with")
    found = []
    for number, each in enumerate(listed, start=1):
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str):
            raise ValueError(f"{path}: deployment {number} has no name")
        try:
            found.append(deployment(**_known(_filled(each), KEYS)))
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise ValueError(f"{path}: {name}: {said}") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {name}: {in_a_line(error)}") from None
    return found


def deployment(
    *,
    name: str,
    entrypoint: str = "",
    schedules: Any = None,
    triggers: Any = None,
    concurrency_limit: Any = None,
    **settings: Any,
) -> RunnerDeployment:
    """One of them. Raises ValueError, also where its flow does not take its parameters."""
    if ":" in entrypoint:
        # prefect.utilities.importtools.load_script_as_module leaves the file's folder at the head of sys.path, where flows/x.py
        # hides any module x, in this process and in all that multiprocessing starts from it
        raise ValueError(
            f"entrypoint {entrypoint!r} is a file, expected the module of the flow, such as flows.retrain.retrain"
        )
    try:
        flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint)
    except (ValueError, OSError, ImportError, ScriptError, MissingFlowError) as error:
        raise ValueError(f"entrypoint {entrypoint!r} leads to no flow: {error}") from error
    parameters = settings.get("parameters") or {}
    _known(parameters, flow.parameters.properties)
    for wrong in validate(parameters, flow.parameters.model_dump()):
        raise ValueError(f"parameters: {wrong.json_path.removeprefix('$.')}: {wrong.message}")
    refuse_secrets(str(parameters.get("landing", "")))
    if isinstance(concurrency_limit, dict):
        _known(concurrency_limit, ConcurrencyLimitConfig.model_fields)
        concurrency_limit = ConcurrencyLimitConfig(**concurrency_limit)
    return RunnerDeployment.from_entrypoint(
        entrypoint,
        name,
        schedules=[schedule(each) for each in _each(schedules, of="schedules")],
        triggers=[trigger(each) for each in _each(triggers, of="triggers")],
        concurrency_limit=concurrency_limit,
        **{key: value for key, value in settings.items() if key != POOL},
    )


def trigger(given: dict[str, Any]) -> Any:
    """One of Prefect's, by its settings. Raises ValueError where it has another."""
    found = Trigger.validate_python(given)
    _known(given, type(found).model_fields)
    return found


def schedule(given: dict[str, Any]) -> Schedule:
    """A line of a cron table, an interval in seconds, or an RRULE; and what Prefect lets one add to it."""
    [kind, *more] = [key for key in SCHEDULES if key in given] or [""]
    if more or not kind:
        raise ValueError(f"a schedule has {', '.join(given)}, expected one of {', '.join(SCHEDULES)}")
    rest = {key: value for key, value in given.items() if key != kind}
    return SCHEDULES[kind](given[kind], **rest)


def _known(given: dict[str, Any], names: Any) -> dict[str, Any]:
    for key in given:
        if key not in names:
            raise ValueError(f"{key} is unknown, expected one of {', '.join(names)}")
    return given


def _each(given: Any, *, of: str) -> list[dict[str, Any]]:
    if not isinstance(given or [], list) or not all(isinstance(each, dict) for each in given or []):
        raise ValueError(f"{of} is {given!r}, expected a list: a dash, then its settings")
    return given or []


def _filled(value: Any) -> Any:
    """With what the environment has for each {{ $NAME }}. Raises ValueError where it has nothing."""
    if isinstance(value, dict):
        return {key: _filled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each) for each in value]
    return VARIABLE.sub(_of_environment, value) if isinstance(value, str) else value


def _of_environment(found: re.Match[str]) -> str:
    if not os.environ.get(found[1]):
        raise ValueError(f"{found[1]} is not set in the environment, and the file asks for it: export {found[1]}=…")
    return os.environ[found[1]]
