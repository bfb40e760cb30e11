"""Decides whether the batches that landed since the last training are worth another: large or different enough.

The audit of the data measures both, and writes them to health.json.
"""

from typing import Any

import yaml

from flows.in_use.verdict import read_object
from flows.workspace import paths
from flows.workspace.batches import listed
from flows.workspace.lockfile import LOCK_FILE
from tasks.machine.names import on_one_line

ADVICE = "run `dvc repro audit` again"
TRAINING = "train_head"  # the first stage that learns


class NotWorthItError(Exception):
    """The error of new batches that are neither large nor different enough for a training."""


def check_worth() -> str:
    """Return why a training is worth it, in words; "" where no batch is new since the last one.

    Raises:
        NotWorthItError: the new batches are not worth a training.
        ValueError: the files of the audit are missing or damaged, or dvc.lock is.
    """
    trained, names = trained_on(), listed()
    if trained is None or not names:
        return "nothing was trained yet"
    if removed := [name for name in trained if name not in names]:
        return f"{removed[0]} is no batch any more"
    new = [name for name in names if name not in trained]
    if not new:
        return ""
    health = read_object(paths.health(), advice=ADVICE)
    try:
        batches = {name: health["batches"][name] for name in names}
        before = sum(batches[name]["num_samples"] for name in trained)
        num_new = sum(batches[name]["num_samples"] for name in new)
        if num_new >= health["min_new"] * before:
            return f"{num_new:,} new samples, beside {before:,} before, are enough (audit.min_new)"
        if different := [name for name in new if (batches[name]["drift"] or {}).get("is_different")]:
            return str(batches[different[0]]["drift"]["text"])
        if len(new) > health["num_compared"]:
            return f"{len(new)} batches are new, of which the audit compares {health['num_compared']} alone"
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{paths.health()} is damaged: {ADVICE}") from None
    differences = [on_one_line(batches[name]["drift"]["text"]) for name in new if batches[name]["drift"]]
    raise NotWorthItError(
        f"not trained: {num_new:,} new samples, beside {before:,} before, are fewer than audit.min_new asks for"
        + (f"; {'; '.join(differences)}" if differences else ", and too few to tell whether they differ")
    )


def trained_on() -> list[str] | None:
    """Return the batches of the last training, as dvc.lock has them; None where there was none."""
    try:
        content: Any = yaml.safe_load(LOCK_FILE.read_text("utf-8"))
        return [str(name) for name in content["stages"][TRAINING]["params"][str(paths.batches())]["batches"]]
    except (FileNotFoundError, KeyError, TypeError):
        return None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ValueError(f"{LOCK_FILE} is not YAML: restore it with git") from None
