"""The candidate becomes the model in use: `python -m flows.promote`. Only with a verdict that speaks of its very bytes."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.files import write_whole
from flows.repro import DvcError, dvc, only_writer

CANDIDATE = Path("data/models/candidate")
BASELINE = Path("data/models/baseline")
RECORD = Path("data/models/baseline.json")
REGISTRY = Path("data/classes.json")
VERDICT = Path("data/regression/verdict.json")


def promote(log: Callable[[str], None]) -> str:
    """Copy the accepted candidate to its place, have DVC track it, and record it; returns the SHA-256 of its weights.

    Raises:
        ValueError: there is no verdict, or it rejects, or it speaks of another candidate.
    """
    if not VERDICT.is_file():
        raise ValueError(f"there is no verdict at {VERDICT}: run `dvc repro` first")
    verdict = json.loads(VERDICT.read_text("utf-8"))
    if verdict["verdict"] != "accepted":
        raise ValueError(f"the candidate is {verdict['verdict']}: see the report")
    digest = hashlib.sha256((CANDIDATE / "model.safetensors").read_bytes()).hexdigest()
    if digest != verdict["candidate"]:
        raise ValueError("the verdict is of another candidate: run `dvc repro` again")
    registry = extended_registry(json.loads((CANDIDATE / "model.json").read_text("utf-8"))["classes"])
    beside = BASELINE.with_name(".baseline.part")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(CANDIDATE, beside)
    shutil.rmtree(BASELINE, ignore_errors=True)
    beside.rename(BASELINE)
    dvc("add", "--quiet", str(BASELINE), log=log)  # so that `dvc push` keeps it and a fresh clone can pull it
    write_whole(REGISTRY, as_json(registry))
    write_whole(RECORD, as_json({"model_sha256": digest}))
    return digest


def extended_registry(classes: dict[str, list[str]]) -> dict[str, Any]:
    """The registry with the classes of a model: what stands in it keeps its place, what is new is appended.

    Raises:
        ValueError: the model has the registered classes in another order, or lacks some.
    """
    registry = json.loads(REGISTRY.read_text("utf-8"))
    for target, names in classes.items():
        registered = registry["classes"].get(target, [])
        if names[: len(registered)] != registered:
            raise ValueError(
                f"the candidate's classes of {target} do not begin as {REGISTRY} has them: run `dvc repro` again"
            )
    grown = registry["classes"] | classes
    return {"version": registry["version"] + (grown != registry["classes"]), "classes": grown}


def as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def main() -> None:
    try:
        with only_writer():
            digest = promote(print)
        print(f"in use now: {digest}; commit {RECORD}, {REGISTRY} and {BASELINE}.dvc, and `dvc push`")
    except (ValueError, OSError, DvcError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
