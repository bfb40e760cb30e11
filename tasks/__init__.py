"""How: plain Python, a module a stage, and the rooms that the stages use."""

import os
import sys

from tasks.stage.handover import hand_over

# While Python looks for the module of `python -m tasks.VERB`, sys.argv begins with -m.
IS_VERB = sys.argv[:1] == ["-m"]
WANTS_HELP = IS_VERB and bool({"-h", "--help"} & set(sys.argv))
if not WANTS_HELP:
    hand_over(__path__[0])  # before more is imported: a verb that another process runs costs no more than this

from typing import TYPE_CHECKING, Any  # noqa: E402

from tasks.machine.garbage import collect_rarely, never_collect_at_exit  # noqa: E402
from tasks.machine.interpreter import explain_missing_packages  # noqa: E402
from tasks.machine.late_modules import load_late  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.prediction.predictor import Predictor

# A waiting thread of libgomp spins this often before it gives its core away. By default it spins for milliseconds.
# Where another process needs that core, every short parallel section then waits for the scheduler: beside one busy
# process on 2 cores a training step took 1.1 s instead of 0.04 s. With this setting it takes 0.1 s, and 0.05 s where
# nothing else runs. It must be set before torch starts its threads, and a stage can be started in many ways.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

explain_missing_packages()  # the verb's own imports are next
load_late()

if WANTS_HELP:  # given before the verb imports what it works with, which takes seconds
    from tasks.stage.arguments import show_help

    show_help(sys.orig_argv)
if IS_VERB:
    collect_rarely()
    never_collect_at_exit()


def load(bundle: "str | Path", **choices: Any) -> "Predictor":
    """Return a model for a notebook; see `tasks.prediction.predictor.Predictor`."""
    from tasks.prediction.predictor import Predictor  # torch, which no other user of this package waits for

    return Predictor(bundle, **choices)
