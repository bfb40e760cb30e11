"""Tasks for Label Studio and the labels that come back: its JSON format, https://labelstud.io/guide/task_format.html."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tasks.machine.names import printable
from tasks.targets.number import Number
from tasks.targets.several import Several
from tasks.targets.target import Target

TASKS, CONFIG = "label_studio.json", "label_studio.xml"
SAMPLE = "sample"  # the name of the sample, in the configuration and in the data of a task
SERVED = "/".join(["", "data", "local-files", "?d="])  # a file below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT

Answered = Sequence[Mapping[str, str]]  # by sample, the label that the model answers for each target


def config_of(targets: Mapping[str, Target], *, modality: str) -> str:
    """Return the labelling configuration of a project: the sample, and a control for each target."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image" if modality == "images" else "Text", name=SAMPLE, value=f"${SAMPLE}")
    for name, target in targets.items():
        if len(targets) > 1:
            ElementTree.SubElement(view, "Header", value=name)
        if isinstance(target, Number):
            ElementTree.SubElement(view, "Number", name=name, toName=SAMPLE)
            continue
        how_many = "multiple" if isinstance(target, Several) else "single"
        control = ElementTree.SubElement(view, "Choices", name=name, toName=SAMPLE, choice=how_many)
        for label in target.names:
            ElementTree.SubElement(control, "Choice", value=label)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def tasks_of(
    samples: Sequence[Mapping[str, str]], answers: Answered, targets: Mapping[str, Target], *, model: str
) -> list[dict[str, Any]]:
    """Return a task for each sample, with the model's answers as predictions.

    Args:
        samples: `sample`, an address or a text, and other fields that a task keeps, such as `sample_id`.
        model: the version of the model that answers; "" where there is none.
    """
    tasks = []
    for sample, answer in zip(samples, answers, strict=True):
        task: dict[str, Any] = {"data": dict(sample)}
        if answer:
            result = [_result(name, label, targets[name]) for name, label in answer.items()]
            task["predictions"] = [{"model_version": model, "result": result}]
        tasks.append(task)
    return tasks


def _result(name: str, label: str, target: Target) -> dict[str, Any]:
    own: dict[str, Any] = {"from_name": name, "to_name": SAMPLE}
    if isinstance(target, Number):
        return own | {"type": "number", "value": {"number": float(label)}}
    return own | {
        "type": "choices",
        "value": {"choices": json.loads(label) if isinstance(target, Several) else [label]},
    }


def labels_in(path: Path, targets: Mapping[str, Target]) -> Iterator[tuple[str, str, str, str]]:
    """Yield sample_id, target, label and person of each finished annotation in an export as JSON.

    An annotation that was skipped has no label. The person is "" where the export names none.

    Raises:
        ValueError: the file is no such export, or a task of it has a label that its target cannot have.
    """
    try:
        tasks = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): export the project again, as JSON") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError(f"{path} is no list of tasks: export the project as JSON")
    for number, task in enumerate(tasks, start=1):
        place = f"{path}, task {number}"
        data, annotations = task.get("data"), task.get("annotations")
        if not isinstance(data, dict) or not isinstance(annotations, list):
            raise ValueError(f"{place} has no `data` and `annotations`: export the project as JSON, not as JSON-MIN")
        for annotation in annotations:
            if not isinstance(annotation, dict):
                raise ValueError(f"{place} has a damaged annotation: export the project again, as JSON")
            if not annotation.get("was_cancelled"):
                for target, label in _labels(annotation.get("result"), targets, place=place):
                    yield str(data.get("sample_id", "")), target, label, _person(annotation.get("completed_by"))


def _labels(results: Any, targets: Mapping[str, Target], *, place: str) -> Iterator[tuple[str, str]]:
    for result in results if isinstance(results, list) else []:
        name = str(result.get("from_name")) if isinstance(result, dict) else ""
        if name not in targets:
            raise ValueError(f"{place} labels {printable(name)!r}, expected one of {', '.join(targets)}")
        value = result.get("value")
        given = value.get("number", value.get("choices")) if isinstance(value, dict) else None
        if isinstance(given, list) and all(isinstance(choice, str) for choice in given):
            is_one = not isinstance(targets[name], Several)
            if is_one and len(given) != 1:
                raise ValueError(f"{place} has {len(given)} choices for {name}, expected one")
            yield name, given[0] if is_one else json.dumps(given, ensure_ascii=False)
        elif isinstance(given, int | float) and not isinstance(given, bool):
            yield name, repr(given)
        else:
            raise ValueError(f"{place} has no choice and no number for {name}: export the project again, as JSON")


def _person(completed_by: Any) -> str:
    """Return who annotated: the address, or the number that Label Studio gives a person."""
    if isinstance(completed_by, dict):
        return str(completed_by.get("email") or completed_by.get("id") or "")
    return f"annotator {completed_by}" if completed_by is not None else ""
