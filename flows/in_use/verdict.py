"""The gate's verdict and a candidate in; whether the one speaks of the very bytes of the other, out."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from flows.workspace import paths
from flows.workspace.dvc import lines_of
from flows.workspace.hashes import hash_of
from flows.workspace.lockfile import LOCK_FILE

ADVICE = "run `dvc repro` again"

KEPT = ("accuracy", "macro_f1", "log_loss", "calibration_error")  # of the metrics, in the log


def check_verdict(bundle: Path, model_sha256: str, *, in_use: str | None) -> None:
    """`bundle` is a copy of the candidate. Raises ValueError where there is no verdict, or it rejects, or it is of other
    weights, or another model.json, or was found against another model than the one `in_use` (its SHA-256)."""
    if not paths.verdict().is_file():
        raise ValueError(f"there is no verdict at {paths.verdict()}: run `dvc repro` first")
    verdict = read_verdict()
    if verdict.get("verdict") != "accepted":
        raise ValueError(f"the candidate is {verdict.get('verdict')}: see the report")
    if model_sha256 != verdict.get("candidate"):
        raise ValueError(f"the verdict is of another candidate: {ADVICE}")
    if verdict.get("baseline") != in_use:
        was, now = (f"{each[:12]}" if each else "no model" for each in (verdict.get("baseline"), in_use))
        raise ValueError(f"the verdict was found against {was}, and {now} is in use: {ADVICE}")
    # the verdict names the weights; dvc.lock says what was evaluated, and DVC whether rules and measurements are still those
    record = paths.baseline_record()
    evaluated = {paths.candidate(): hash_of(bundle), record: hash_of(record)}
    changed = [f"{path}" for path, found in evaluated.items() if locked("evaluate", "deps", f"{path}") != found]
    if changed := changed or changes("regression"):
        raise ValueError(f"{changed[0]} is not what the verdict was found on: {ADVICE}")


def changes(stage: str) -> list[str]:
    """The files that a stage read or wrote, params.yaml and dvc.yaml among them, of which something is otherwise now."""
    printed = "".join(line for line in lines_of("status", "--json", stage) if line.startswith("{"))
    found = json.loads(printed).get(stage, []) if printed else []
    sides = [side for each in found if isinstance(each, dict) for side in each.values()]
    return [name for side in sides for name in side] + ["dvc.yaml" for each in found if isinstance(each, str)]


def facts(bundle: Path, model_sha256: str) -> dict[str, Any]:
    """What the log keeps of verdict and metrics; None where there are none of this bundle."""
    known: dict[str, Any] = {"verdict": None, "verdict_sha256": None, "metrics": None}
    if not is_evaluated(bundle, model_sha256):
        return known
    file = paths.verdict()
    if file.is_file():
        verdict = read_verdict()
        if verdict.get("candidate") == model_sha256:
            known["verdict"] = verdict.get("verdict")
            known["verdict_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    measured = read_object(paths.metrics(), advice=ADVICE)
    known["metrics"] = {
        target: {name: found["candidate"][name] for name in KEPT if name in found["candidate"]}
        for target, found in measured.items()
        if isinstance(found, dict) and "candidate" in found
    }
    return known


def is_evaluated(bundle: Path, model_sha256: str) -> bool:
    """Whether the predictions that are here are of these weights and this model.json."""
    subject = paths.evaluation() / "subject.json"
    if not subject.is_file() or read_object(subject, advice=ADVICE).get("candidate") != model_sha256:
        return False
    return locked("evaluate", "deps", f"{paths.candidate()}") == hash_of(bundle)


def locked(stage: str, side: str, path: str) -> str | None:
    """The content hash that dvc.lock has of what a stage read (`deps`) or wrote (`outs`)."""
    try:
        entries = yaml.safe_load(LOCK_FILE.read_text("utf-8"))["stages"][stage][side]
    except (FileNotFoundError, KeyError, TypeError):
        return None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError(f"{LOCK_FILE} is not YAML: restore it with git, then {ADVICE}") from None
    return next((str(each.get("md5")) for each in entries if each["path"] == path), None)


def read_verdict() -> dict[str, Any]:
    """The gate's. Raises ValueError where there is none, or it is damaged."""
    return read_object(paths.verdict(), advice=ADVICE)


def read_object(path: Path, *, advice: str) -> dict[str, Any]:
    """A JSON object. Raises ValueError naming the file, and the advice, where it holds anything else, or is not there."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {advice}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged, expected a JSON object: {advice}")
    return found
