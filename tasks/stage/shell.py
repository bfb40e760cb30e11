"""Runs a function from the shell: arguments, seed, logging, and errors in one line."""

import argparse
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tasks.machine.cores import compute_deterministically
from tasks.machine.lifeline import die_with_parent

logger = logging.getLogger("graftline")

Run = Callable[..., None]
Load = Callable[[Path], Callable[[str], Any]]  # the path of params.yaml -> a section by its name


def _day(text: str) -> date:
    """Return the day that a text such as 2026-01-31 names."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day, expected one such as 2026-01-31") from None


FROM_SHELL: dict[Any, dict[str, Any]] = {  # how an argument is read, by its annotation
    Path: {"type": Path, "required": True},
    Path | None: {"type": Path},
    str | None: {},
    date | None: {"type": _day},
    bool: {"action": "store_true"},
}


def run_verb(run: Run, arguments: list[str] | None = None, *, load: Load | None = None) -> None:
    """Call `run` with what its signature asks for, and exit: 0 when it is done, 1 with one line when it cannot be.

    A parameter annotated as in FROM_SHELL is an argument of the command line. Any other is the section of params.yaml
    of that name, which `load` reads; without `load` there is none, and the seed is 0.
    """
    set_up()
    parameters = inspect.signature(run, eval_str=True).parameters.values()
    from_shell = [parameter for parameter in parameters if parameter.annotation in FROM_SHELL]
    parser = argparse.ArgumentParser(prog=f"python -m {_module(run)}", description=inspect.getdoc(run))
    if load:
        parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml")
    for parameter in from_shell:
        parser.add_argument(f"--{parameter.name.replace('_', '-')}", **FROM_SHELL[parameter.annotation])
    values = vars(parser.parse_args(arguments))
    with errors_in_one_line():
        section = load(values.pop("params")) if load else lambda name: 0
        sections = {parameter.name: section(parameter.name) for parameter in parameters if parameter not in from_shell}
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
            "image_size, where it has them"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        logger.error("error: interrupted")
        sys.exit(130)


def _module(run: Run) -> str:
    """Return the module as the shell names it; Python calls it __main__."""
    path = Path(inspect.getfile(run)).resolve().relative_to(Path(__file__).parents[2])
    return ".".join(path.with_suffix("").parts)


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
