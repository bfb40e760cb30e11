"""Reads the deployments of prefect.yaml for `flows.serve`. For the workers of a pool `prefect deploy` reads it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentTriggerTypes
from prefect.exceptions import MissingFlowError, ScriptError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.schedules import Cron, Interval, RRule, Schedule
from prefect.utilities.schema_tools.validation import validate
from pydantic import TypeAdapter, ValidationError

from flows.server.plan import PLAN, filled, read_plan
from flows.server.secrets import check_variable
from flows.workspace.redaction import in_a_line, refuse_secrets

KEYS = ("name", "entrypoint", "description", "version", "tags", "parameters", "schedules", "triggers",
        "concurrency_limit", "enforce_parameter_schema", "paused", "work_pool")  # fmt: skip
POOL = "work_pool"  # only workers use it
SCHEDULES: Mapping[str, Callable[..., Schedule]] = {"cron": Cron, "interval": Interval, "rrule": RRule}

Trigger: TypeAdapter[Any] = TypeAdapter(DeploymentTriggerTypes)


def read_deployments(path: Path = PLAN) -> list[RunnerDeployment]:
    """Return the deployments of the file.

    Raises:
        ValueError: the file or a deployment in it is wrong; the message is one line.
    """
    deployments = []
    for name, entry in read_plan(path).items():
        try:
            deployments.append(deployment(**_only(KEYS, filled(entry))))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise ValueError(f"{path}: {name}: {problems}") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {name}: {in_a_line(error)}") from None
    return deployments


def deployment(
    *,
    name: str,
    entrypoint: str = "",
    schedules: Any = None,
    triggers: Any = None,
    concurrency_limit: Any = None,
    **settings: Any,
) -> RunnerDeployment:
    """Return a deployment with these settings.

    Raises:
        ValueError: a setting is wrong, or the flow does not take the parameters.
    """
    if ":" in entrypoint:
        # prefect.utilities.importtools.load_script_as_module leaves the file's folder at the head of sys.path, where
        # flows/x.py hides any module x, in this process and in all that multiprocessing starts from it
        raise ValueError(
            f"entrypoint {entrypoint!r} is a file, expected the module of the flow, such as flows.retrain.retrain"
        )
    try:
        flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint)
    except (ValueError, OSError, ImportError, ScriptError, MissingFlowError) as error:
        raise ValueError(f"entrypoint {entrypoint!r} leads to no flow: {error}") from error
    parameters = settings.get("parameters") or {}
    _only(flow.parameters.properties, parameters)
    for problem in validate(parameters, flow.parameters.model_dump()):
        raise ValueError(f"parameters: {problem.json_path.removeprefix('$.')}: {problem.message}")
    refuse_secrets(str(parameters.get("landing", "")))
    for variable in parameters.get("secrets") or {}:
        check_variable(variable)
    if isinstance(concurrency_limit, dict):
        _only(ConcurrencyLimitConfig.model_fields, concurrency_limit)
        concurrency_limit = ConcurrencyLimitConfig(**concurrency_limit)
    return RunnerDeployment.from_entrypoint(
        entrypoint,
        name,
        schedules=[schedule(entry) for entry in _list_of_mappings(schedules, key="schedules")],
        triggers=[trigger(entry) for entry in _list_of_mappings(triggers, key="triggers")],
        concurrency_limit=concurrency_limit,
        **{key: value for key, value in settings.items() if key != POOL},
    )


def trigger(settings: dict[str, Any]) -> Any:
    """Return Prefect's trigger with these settings. Raises ValueError where one is unknown."""
    made = Trigger.validate_python(settings)
    _only(type(made).model_fields, settings)
    return made


def schedule(settings: dict[str, Any]) -> Schedule:
    """Return Prefect's schedule: a cron line, an interval in seconds, or an RRULE, with Prefect's further settings.

    Raises:
        ValueError: there is none of the three, or more than one.
    """
    [kind, *more] = [key for key in SCHEDULES if key in settings] or [""]
    if more or not kind:
        raise ValueError(f"a schedule has {', '.join(settings)}, expected one of {', '.join(SCHEDULES)}")
    rest = {key: value for key, value in settings.items() if key != kind}
    return SCHEDULES[kind](settings[kind], **rest)


def _only(names: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings. Raises ValueError for a setting with any other name."""
    for key in settings:
        if key not in names:
            raise ValueError(f"{key} is unknown, expected one of {', '.join(names)}")
    return settings


def _list_of_mappings(value: Any, *, key: str) -> list[dict[str, Any]]:
    entries = value or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{key} is {value!r}, expected a list: a dash, then its settings")
    return entries
