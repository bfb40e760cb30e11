"""Read the gate's verdict, and check that it is about the very bytes of a candidate."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.in_use.measures import logged
from flows.workspace import paths
from flows.workspace.dvc import lines_of
from flows.workspace.hashes import hash_of
from flows.workspace.lockfile import LOCK_FILE

ADVICE = "run `dvc repro` again"
DIGEST = "digest"  # the stage on which the rules of the gate depend, too
GATE = "regression"  # the stage that writes the verdict
REJECTED = "the candidate is rejected"
WAITS = "the candidate is undecided and waits for a person"
UNDECIDED = Path(".dvc/tmp/graftline-undecided")  # exists until a run or a person decides about the candidate


def check_verdict(bundle: Path, model_sha256: str, *, in_use: str | None) -> None:
    """Check that the gate allows this bundle, a copy of the candidate, to be put in use without a person.

    Args:
        in_use: the SHA-256 of the weights in use.

    Raises:
        ValueError: there is no verdict, or it does not allow it, or it is about other weights or another model.json, or
            it compared with another model than the one in use.
    """
    if not paths.verdict().is_file():
        raise ValueError(f"there is no verdict at {paths.verdict()}: run `dvc repro` first")
    verdict = read_verdict()
    if not may_promote(verdict):
        raise ValueError(
            f"the candidate is {verdict.get('verdict')}: {paths.report()} has the reasons; "
            "--force --why '…' puts it in use all the same"
        )
    if model_sha256 != verdict.get("candidate"):
        raise ValueError(f"the verdict is about another candidate: {ADVICE}")
    if verdict.get("baseline") != in_use:
        compared, now = (f"{digest[:12]}" if digest else "no model" for digest in (verdict.get("baseline"), in_use))
        raise ValueError(f"the verdict compares with {compared}, and {now} is in use: {ADVICE}")
    # the verdict names the weights; dvc.lock has the hashes of the evaluated files, and DVC knows whether rules and
    # measurements changed
    record = paths.baseline_record()
    hashes = {paths.candidate(): hash_of(bundle), record: hash_of(record)}
    changed = [f"{path}" for path, digest in hashes.items() if locked("evaluate", "deps", f"{path}") != digest]
    if changed := changed or changes(DIGEST, GATE):
        raise ValueError(f"{changed[0]} changed after the verdict: {ADVICE}")


def may_promote(verdict: Mapping[str, Any]) -> bool:
    """Return whether a candidate with this verdict may be put in use without a person."""
    return bool(verdict.get("promotes", verdict.get("verdict") == "accepted"))


def refusal_of_gate() -> str | None:
    """Return the verdict in words on a candidate at which the gate stopped; None where it stopped at none."""
    if not paths.verdict().is_file():
        return None
    verdict = read_verdict()
    if verdict.get("verdict") == "rejected":
        return REJECTED
    return None if may_promote(verdict) else WAITS


def changes(*stages: str) -> list[str]:
    """Return the files that changed since their stages ran: inputs, outputs, params.yaml and dvc.yaml."""
    printed = "".join(line for line in lines_of("status", "--json", *stages) if line.startswith("{"))
    entries = [entry for stage in (json.loads(printed) if printed else {}).values() for entry in stage]
    sides = [side for entry in entries if isinstance(entry, dict) for side in entry.values()]
    return [name for side in sides for name in side] + ["dvc.yaml" for entry in entries if isinstance(entry, str)]


def facts(bundle: Path, model_sha256: str) -> dict[str, Any]:
    """Return the part of verdict and metrics that the log keeps; None for those that are not about this bundle."""
    known: dict[str, Any] = {"verdict": None, "verdict_sha256": None, "metrics": None}
    if not is_evaluated(bundle, model_sha256):
        return known
    file = paths.verdict()
    if file.is_file():
        verdict = read_verdict()
        if verdict.get("candidate") == model_sha256:
            known["verdict"] = verdict.get("verdict")
            known["verdict_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    metrics = read_object(paths.metrics(), advice=ADVICE)
    known["metrics"] = {
        target: logged(models)
        for target, models in metrics.items()
        if isinstance(models, dict) and "candidate" in models
    }
    return known


def is_evaluated(bundle: Path, model_sha256: str) -> bool:
    """Return whether the predictions of evaluate are those of these weights and this model.json."""
    subject = paths.evaluation() / "subject.json"
    if not subject.is_file() or read_object(subject, advice=ADVICE).get("candidate") != model_sha256:
        return False
    return locked("evaluate", "deps", f"{paths.candidate()}") == hash_of(bundle)


def locked(stage: str, side: str, path: str) -> str | None:
    """Return dvc.lock's content hash of a path that a stage read (`deps`) or wrote (`outs`); None if it has none."""
    try:
        entries = yaml.safe_load(LOCK_FILE.read_text("utf-8"))["stages"][stage][side]
    except (FileNotFoundError, KeyError, TypeError):
        return None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError(f"{LOCK_FILE} is not YAML: restore it with git, then {ADVICE}") from None
    return next((str(entry.get("md5")) for entry in entries if entry["path"] == path), None)


def read_verdict() -> dict[str, Any]:
    """Return the gate's verdict. Raises ValueError where it is missing or damaged."""
    return read_object(paths.verdict(), advice=ADVICE)


def read_object(path: Path, *, advice: str) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError, with the file and the advice, where it is missing or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {advice}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged, expected a JSON object: {advice}")
    return content
