"""Put an accepted candidate in use, or a model that was in use before."""

import json
import shutil
import subprocess
import sys
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
from flows.workspace.git import unstage, versions_tagged
from flows.workspace.paths import ARTIFACT
from tasks.data.admission.registry import Registry

SMOKE_SECONDS = 1800
Log = Callable[[str], None]


@contextmanager
def whole() -> Iterator[None]:
    """What cannot be finished leaves nothing behind."""
    try:
        yield
    except BaseException:
        settle_unfinished(lambda line: None)
        raise


@whole()
def promote(log: Log, *, force: bool = False, why: str | None = None) -> str:
    """Put the accepted candidate in use, or with `force` any that loads, and return the SHA-256 of its weights.

    Raises:
        ValueError: there is no verdict, or it rejects, or it speaks of another candidate; or a fresh process cannot load the
            candidate, or predicts something else than evaluate did.
    """
    candidate, bundle = paths.candidate(), staged()
    found = digests(candidate)
    if is_in_use(found):
        record(read_log()[-1], log=log)
        log("the candidate is in use already")
        return found["model_sha256"]
    paths.promotion().mkdir()
    shutil.copytree(candidate, bundle)
    if digests(bundle) != found:
        raise ValueError(f"{candidate} changed while it was copied: let `dvc repro` end, then run again")
    digest = found["model_sha256"]
    if not force:
        check_verdict(bundle, digest, in_use=weights_in_use())
    seen = smoke(is_compared=is_evaluated(bundle, digest), log=log)
    registry = extended_registry(classes_of(bundle))
    dvc(
        "add", "--quiet", "--no-relink", str(bundle), log=log
    )  # so that `dvc push` keeps it and a fresh clone can pull it
    unstage(paths.promotion())  # where DVC is told to stage by itself
    given = {"forced": force, "why": why}
    settle("promote", registry=registry, facts=facts(bundle, digest) | given | seen, log=log)
    return digest


@whole()
def roll_back(log: Log, *, digest: str = "", why: str | None = None) -> str:
    """Put a model in use that was before: the one whose SHA-256 begins so, or of that version (v3), or the one before the present one. It comes from
    DVC's cache, or else its remote.

    Raises:
        ValueError: the log has no such model, or its bytes are not those that were in use.
        DvcError: neither cache nor remote has it.
    """
    earlier = find(read_log(), digest, in_use=recorded())
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
    seen = smoke(is_compared=False, log=log)
    known = {key: earlier.get(key) for key in ("verdict", "verdict_sha256", "metrics")}
    registry = registry_that_has(classes_of(bundle))
    settle("rollback", registry=registry, facts=known | {"forced": False, "why": why} | seen, log=log)
    return str(earlier["model_sha256"])


def settle(action: str, *, registry: Registry, facts: dict[str, Any], log: Log) -> None:
    version = 1 + max([int(each["version"]) for each in read_log()] + versions_tagged(ARTIFACT), default=0)
    pointer = staged_pointer().read_text("utf-8")
    entry: Entry = {
        "version": version,
        "tag": f"{ARTIFACT}@v{version}.0.0",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "action": action,
        "previous": weights_in_use(),
        "dvc_out": yaml.safe_load(pointer)["outs"][0],
        **digests(staged()),
        **facts,
    }
    put_in_use(Plan(entry=entry, registry=asdict(registry), pointer=pointer), log=log)


def smoke(*, is_compared: bool, log: Log) -> dict[str, Any]:
    """A fresh process loads the staged bundle and predicts; what it says, and how long a sample took. Raises ValueError with
    what it says where it fails."""
    command = [sys.executable, "-m", "tasks.smoke", "--bundle", str(staged())]
    if is_compared:
        command += ["--predictions", str(paths.evaluation() / "predictions.parquet"), "--raw", str(paths.raw())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SMOKE_SECONDS)
    lines = done.stderr.strip().splitlines() or ["a fresh process ended without a word"]
    said = lines[-1].replace(str(staged()), "the bundle")
    if done.returncode != 0:
        raise ValueError(said.removeprefix("error: "))
    log(said)
    return {"smoke": said, "latency_milliseconds": json.loads(done.stdout)["latency_milliseconds"]}


def weights_in_use() -> str | None:
    found = recorded()
    return found["model_sha256"] if found else None


def is_in_use(found: dict[str, str]) -> bool:
    """By both digests, whole in its place, and where the log knows of it."""
    return recorded() == found and is_at(paths.baseline(), found) and bool(read_log())
