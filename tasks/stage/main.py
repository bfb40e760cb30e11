"""Runs a verb from the shell: `python -m tasks.embed --raw … --out …`. Arguments, params, seed, logging, errors."""

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

from tasks.machine.lifeline import die_with_parent

logger = logging.getLogger("graftline")

Run = Callable[..., None]


def _day(text: str) -> date:
    """Such as 2026-01-31."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day, expected one such as 2026-01-31") from None


PARAMS = Path("params.yaml")
FROM_SHELL: dict[Any, dict[str, Any]] = {  # by annotation: how the argument is read
    Path: {"type": Path, "required": True},
    Path | None: {"type": Path},
    str | None: {},
    date | None: {"type": _day},
    bool: {"action": "store_true"},
}


def main(run: Run, arguments: list[str] | None = None) -> None:
    """Call `run` with what its signature asks for, and exit: 0 when it is done, 1 with one line when it cannot be.

    A parameter annotated as in FROM_SHELL is an argument of the command line; any other is the section of params.yaml of
    that name.
    """
    set_up()
    parameters = inspect.signature(run, eval_str=True).parameters.values()
    from_shell = [parameter for parameter in parameters if parameter.annotation in FROM_SHELL]
    parser = argparse.ArgumentParser(prog=f"python -m {_module(run)}", description=inspect.getdoc(run))
    for parameter in from_shell:
        parser.add_argument(f"--{parameter.name.replace('_', '-')}", **FROM_SHELL[parameter.annotation])
    sections = [parameter.name for parameter in parameters if parameter not in from_shell]
    if sections:
        parser.add_argument("--params", type=Path, default=PARAMS, help=f"default: {PARAMS}")
    options = vars(parser.parse_args(arguments))
    with told_in_one_line():
        if sections:
            from tasks.stage.params import load_params, section  # a verb without a section loads no options of training

            params = load_params(options.pop("params"))
            options |= {name: section(params, name) for name in sections}
            _seed(params.seed)
        run(**options)


def set_up() -> None:
    """What every verb does first, whatever its arguments."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of pictures: what is wrong with one stands in the ledger
    die_with_parent()


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Exit with 1 and one line where the block cannot be done."""
    try:
        yield
    except (ValueError, OSError, SafetensorError) as error:  # safetensors has its own for a full disk
        if os.environ.get("GRAFTLINE_TRACEBACK"):
            raise
        logger.error("error: %s", _one_line(error))
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        logger.error(
            "error: not enough memory: free some, or lower the minibatch_size of this stage in params.yaml, or image_size, where it has them"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        logger.error("error: interrupted")
        sys.exit(130)


def _module(run: Run) -> str:
    """The module as the shell names it: inside it, the run from the shell is called __main__."""
    return f"tasks.{Path(inspect.getfile(run)).stem}"


def _seed(seed: int) -> None:
    """Everything random is handed a generator made from the seed; this catches what libraries draw by themselves."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        advice = {28: "free some space", 13: "grant access to it", 30: "make it writable"}.get(error.errno or 0, "")
        return ": ".join(str(part) for part in (error.filename, error.strerror, advice) if part)
    return " ".join(str(error).split()) or type(error).__name__
