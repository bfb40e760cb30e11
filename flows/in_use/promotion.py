"""Puts an accepted candidate in use, or a model that was in use before."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import yaml

from flows.in_use.log import Entry, find, read_log
from flows.in_use.place import (
    Plan,
    digests,
    is_at,
    put_in_use,
    record,
    recorded,
    settle_unfinished,
    staged,
    staged_pointer,
)
from flows.in_use.registry import classes_of, extended_registry, registry_that_has
from flows.in_use.verdict import check_verdict, facts, is_evaluated
from flows.workspace import paths
from flows.workspace.dvc import DvcError, dvc
from flows.workspace.git import is_git_checkout, place_in_checkout, unstage, versions_tagged
from flows.workspace.paths import ARTIFACT
from flows.workspace.verbs import run_verb
from tasks.data.admission.registry import Registry
from tasks.machine.failures import MissingDataError

SMOKE_SECONDS = 1800
Log = Callable[[str], None]


@contextmanager
def whole() -> Iterator[None]:
    """Let a promotion or rollback that fails leave nothing behind."""
    try:
        yield
    except BaseException:
        settle_unfinished(lambda line: None)
        raise


@whole()
def promote(log: Log, *, force: bool = False, why: str | None = None) -> str:
    """Put the accepted candidate in use, and return the SHA-256 of its weights. With `force` no verdict is needed.

    Raises:
        ValueError: there is no verdict, or it rejects, or it is about another candidate; or a fresh process cannot load
            the candidate, or predicts otherwise than evaluate.
    """
    is_git_checkout()  # it refuses before anything is written
    candidate, bundle = paths.candidate(), staged()
    hashes = digests(candidate)
    digest = hashes["model_sha256"]
    if is_in_use(hashes):
        record(read_log()[-1], log=log)
        log("the candidate is in use already")
        return digest
    paths.promotion().mkdir()
    shutil.copytree(candidate, bundle)
    if digests(bundle) != hashes:
        raise ValueError(f"{candidate} changed while it was copied: let `dvc repro` end, then run again")
    if not force:
        check_verdict(bundle, digest, in_use=weights_in_use())
    smoke_test = smoke(is_compared=is_evaluated(bundle, digest), log=log)
    registry = extended_registry(classes_of(bundle))
    dvc(
        "add", "--quiet", "--no-relink", str(bundle), log=log
    )  # so that `dvc push` stores it and a fresh clone can pull it
    unstage(paths.promotion())  # DVC stages files where core.autostage is set
    request = {"forced": force, "why": why}
    settle("promote", registry=registry, facts=facts(bundle, digest) | request | smoke_test, log=log)
    return digest


@whole()
def roll_back(log: Log, *, name: str = "", why: str | None = None) -> str:
    """Put a model in use that was in use before, and return the SHA-256 of its weights.

    Its files come from DVC's cache, or else from the DVC remote.

    Args:
        name: a version such as v3, or the beginning of a SHA-256. Empty: the model before the present one.

    Raises:
        ValueError: the log has no such model, or DVC has other bytes than were in use.
        DvcError: neither cache nor remote has it.
    """
    is_git_checkout()  # it refuses before anything is written
    earlier = find(read_log(), name, in_use=recorded())
    bundle, pointer = staged(), staged_pointer()
    paths.promotion().mkdir()
    out = earlier["dvc_out"] | {"path": bundle.name}
    pointer.write_text(yaml.safe_dump({"outs": [out]}, sort_keys=False), "utf-8")
    try:
        dvc("checkout", "--quiet", str(pointer), log=lambda line: None)
    except DvcError:
        dvc("pull", str(pointer), log=log)
    if not is_at(bundle, earlier):
        raise ValueError(
            f"DVC has other bytes of {earlier['model_sha256'][:12]} than were in use: `dvc pull` it from another remote"
        )
    smoke_test = smoke(is_compared=False, log=log)
    known = {key: earlier.get(key) for key in ("verdict", "verdict_sha256", "metrics")}
    registry = registry_that_has(classes_of(bundle))
    settle("rollback", registry=registry, facts=known | {"forced": False, "why": why} | smoke_test, log=log)
    return str(earlier["model_sha256"])


def settle(action: str, *, registry: Registry, facts: dict[str, Any], log: Log) -> None:
    """Write the log's entry for the staged bundle, and put it in use."""
    name = name_in_tags()
    version = 1 + max([int(entry["version"]) for entry in read_log()] + versions_tagged(name), default=0)
    pointer = staged_pointer().read_text("utf-8")
    entry: Entry = {
        "version": version,
        "tag": f"{name}@v{version}.0.0",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "action": action,
        "previous": weights_in_use(),
        "dvc_out": yaml.safe_load(pointer)["outs"][0],
        **digests(staged()),
        **facts,
    }
    put_in_use(Plan(entry=entry, registry=asdict(registry), pointer=pointer), log=log)


def name_in_tags() -> str:
    """Return the name by which DVC finds the model's tags; a project in a folder of a checkout has `folder=name`."""
    folder = place_in_checkout().rstrip("/")
    return f"{folder}={ARTIFACT}" if re.fullmatch(r"[A-Za-z0-9_./-]+", folder) else ARTIFACT


def smoke(*, is_compared: bool, log: Log) -> dict[str, Any]:
    """Load the staged bundle in a fresh process and predict; return its message and the latency for one sample.

    Args:
        is_compared: compare with the predictions of evaluate.

    Raises:
        ValueError: the process failed; the message is its own. MissingDataError where it misses samples.
    """
    options = ["--bundle", str(staged())]
    if is_compared:
        options += ["--predictions", str(paths.evaluation() / "predictions.parquet"), "--raw", str(paths.raw())]
    try:
        done = run_verb("smoke", *options, timeout=SMOKE_SECONDS)
    except MissingDataError:
        raise
    except ValueError as error:
        raise ValueError(str(error).replace(str(staged()), "the bundle")) from None
    lines = done.stderr.strip().splitlines() or ["a fresh process ended without a message"]
    message = lines[-1].replace(str(staged()), "the bundle")
    log(message)
    return {"smoke": message, "latency_milliseconds": json.loads(done.stdout)["latency_milliseconds"]}


def weights_in_use() -> str | None:
    """Return the SHA-256 of the weights in use; None if no model is in use."""
    hashes = recorded()
    return hashes["model_sha256"] if hashes else None


def is_in_use(hashes: dict[str, str]) -> bool:
    """Return whether the model with these digests is recorded as in use, whole in its place, and in the log."""
    return recorded() == hashes and is_at(paths.baseline(), hashes) and bool(read_log())
