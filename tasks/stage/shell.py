"""Runs a function from the shell: arguments, seed, logging, and errors in one line."""

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tasks.machine.cores import compute_deterministically
from tasks.machine.lifeline import die_with_parent
from tasks.stage.arguments import moved, verb_of

logger = logging.getLogger("graftline")

Run = Callable[..., None]
Load = Callable[[Path], Callable[[str], Any]]  # the path of params.yaml -> a section by its name


def run_verb(run: Run, arguments: list[str] | None = None, *, load: Load | None = None) -> None:
    """Call `run` with what its signature asks for, and exit: 0 when it is done, 1 with one line when it cannot be.

    `tasks.stage.arguments` says which parameters are arguments of the command line. Any other is the section of
    params.yaml of that name, which `load` reads; without `load` there is none, and the seed is 0.
    """
    set_up()
    verb = verb_of(Path(inspect.getfile(run)), has_params=load is not None)
    values = vars(verb.parser.parse_args(arguments)) | moved(verb)
    with errors_in_one_line():
        section = load(values.pop("params")) if load else lambda name: 0
        sections = {name: section(name) for name in verb.sections}
        _seed(section("seed"))
        run(**values, **sections)


def set_up() -> None:
    """Set up logging, and let the process die with the one that started it."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # the ledger has what is wrong with an image
    die_with_parent()


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Exit with 1 and one line where the block raises an error that a user can mend."""
    try:
        yield
    except (ValueError, OSError, SafetensorError) as error:  # safetensors raises its own for a full disk
        if os.environ.get("GRAFTLINE_TRACEBACK"):
            raise
        logger.error("error: %s", _one_line(error))
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        logger.error(
            "error: not enough memory: free some, or lower the minibatch_size of this stage in params.yaml, or "
            "image_size or max_tokens, where it has them"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        logger.error("error: interrupted")
        sys.exit(130)


def _seed(seed: int) -> None:
    """Seed what libraries draw by themselves; all other randomness takes a generator made from the seed."""
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)
        compute_deterministically()


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        advice = {28: "free some space", 13: "grant access to it", 30: "make it writable"}.get(error.errno or 0, "")
        return ": ".join(str(part) for part in (error.filename, error.strerror, advice) if part)
    return " ".join(str(error).split()) or type(error).__name__
