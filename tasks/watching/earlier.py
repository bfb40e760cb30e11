"""The decisions of the last watch of these answers: a window that it judged on the same grounds is not judged again.

They are read from the watch.json that the new one will replace. A decision counts again where everything is the same
that it depends on: the answers of the window and the files of their vectors, the reference, the settings, and the code.
Windows of a count begin where they began before, so that they do not move when the oldest files of a log are removed.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.machine.sources import digest
from tasks.watching.comparison import Finding
from tasks.watching.decision import Decision
from tasks.watching.reference import Reference

CODE = "tasks.watching.decision"


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The decisions of the last watch by their grounds, and by file how many answers to each target came before it."""

    decisions: Mapping[str, Decision] = field(default_factory=dict)
    before: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> "Earlier":
        """Return the decisions in watch.json; none where it is missing, damaged or of another form."""
        try:
            content = json.loads(file.read_text("utf-8"))
            decisions = {
                str(one["grounds"]): Decision(
                    findings=[_finding(test) for test in one["tests"]], level=float(one["level"])
                )
                for one in content["windows"]
                if one["is_judged"]
            }
            before = {
                str(key): {str(name): int(num) for name, num in counts.items()}
                for key, counts in content["files"].items()
            }
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return cls()
        return cls(decisions=decisions, before=before)


def _finding(test: Mapping[str, Any]) -> Finding:
    return Finding(
        target=None if test["target"] is None else str(test["target"]), test=str(test["test"]),
        effect=float(test["effect"]), p_value=float(test["p_value"]), words=str(test["words"]),
    )  # fmt: skip


def grounds_of(reference: Reference, *, settings: Sequence[object]) -> str:
    """Return a digest of everything that decisions depend on besides the window: code, reference and settings."""
    content = hashlib.sha256(repr([digest(CODE), *settings]).encode())
    content.update(_rows(reference.answers))
    for values in (reference.vectors, reference.unlike):
        content.update(b"none" if values is None else np.ascontiguousarray(values).tobytes())
    return content.hexdigest()


def grounds_of_window(grounds: str, answers: pd.DataFrame, files: Sequence[str]) -> str:
    """Return a digest of `grounds_of`, a window's answers, and the keys of the files that they lie in."""
    return hashlib.sha256(repr([grounds, *files]).encode() + _rows(answers)).hexdigest()


def _rows(answers: pd.DataFrame) -> bytes:
    columns = ["sample_id", "target", "label", "probability", "value", "unlike"]
    return pd.util.hash_pandas_object(answers[columns], index=False).to_numpy().tobytes()
