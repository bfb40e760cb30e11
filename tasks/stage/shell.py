"""Runs a function from the shell: arguments, seed, logging, and errors in one line."""

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError

from tasks.machine.cores import compute_deterministically
from tasks.machine.failures import Failure, MissingDataError, write_failure
from tasks.machine.garbage import collect_as_usual
from tasks.machine.lifeline import die_with_parent
from tasks.machine.names import on_one_line
from tasks.stage.arguments import moved, verb_of

logger = logging.getLogger("graftline")

OF_DVC = ("Running stage '", "Stage '")  # the beginnings of DVC's lines about a stage, in the same stream

Run = Callable[..., None]
Load = Callable[[Path], Callable[[str], Any]]  # the path of params.yaml -> a section by its name


def run_verb(run: Run, arguments: list[str] | None = None, *, load: Load | None = None) -> None:
    """Call `run` with the arguments in its signature, and exit: 0 when it is done, 1 with one line on an error.

    `tasks.stage.arguments` names the parameters that are arguments of the command line. Any other is the section of
    params.yaml of that name, which `load` reads; without `load` there are no sections, and the seed is 0.
    """
    set_up()
    verb = verb_of(Path(inspect.getfile(run)), has_params=load is not None)
    values = vars(verb.parser.parse_args(arguments)) | moved(verb)
    with errors_in_one_line():
        section = load(values.pop("params")) if load else lambda name: 0
        sections = {name: section(name) for name in verb.sections}
        _seed(section("seed"))
        run(**values, **sections)


def set_up(*, dies_with_parent: bool = True) -> None:
    """Set up logging, and let the process die with its parent. Call it after the verb's imports."""
    collect_as_usual()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(handlers=[handler])
    logger.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # the ledger has the defects of images
    if dies_with_parent:
        die_with_parent()


class OneLine(logging.Formatter):
    """Writes a message on one line, whatever names are in it. The traceback of a bug stays as it is.

    No message begins as a line of DVC's that steers a flow.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name that logging calls
        line = on_one_line(record.message)
        return f"graftline: {line}" if line.lstrip().startswith(OF_DVC) else line


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Exit with 1 and one line where the block raises an error that a user can mend."""
    try:
        yield
    except (ValueError, OSError, SafetensorError) as error:  # safetensors raises its own for a full disk
        if os.environ.get("GRAFTLINE_TRACEBACK"):
            raise
        _fail(_one_line(error), pointer=error.pointer if isinstance(error, MissingDataError) else None)
    except (MemoryError, RuntimeError) as error:
        if "have a deterministic implementation" in str(error):
            step = str(error).split()[0]
            _fail(
                f"a GPU computes {step} in no fixed order, so no run could be repeated: set the stage's device to cpu"
            )
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        _fail(
            "not enough memory: free some, or lower the minibatch_size of this stage in params.yaml, or image_size or "
            "max_tokens, where it has them"
        )
    except KeyboardInterrupt:
        logger.error("error: interrupted")
        sys.exit(130)


def _seed(seed: int) -> None:
    """Seed what libraries draw by themselves; all other randomness takes a generator made from the seed."""
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)
        compute_deterministically()


def _fail(error: str, *, pointer: str | None = None) -> NoReturn:
    """Log the error, report it to the program that started this one, and exit with 1."""
    logger.error("error: %s", error)
    write_failure(Failure(error=on_one_line(error), pointer=pointer))
    sys.exit(1)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        advice = {28: "free some space", 13: "grant access to it", 30: "make it writable"}.get(error.errno or 0, "")
        return ": ".join(str(part) for part in (error.filename, error.strerror, advice) if part)
    return " ".join(str(error).split()) or type(error).__name__
