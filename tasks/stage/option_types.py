"""The types for numbers on the command line, for argparse, and the options of the verbs that answer samples."""

import argparse
from collections.abc import Callable


def whole(*, least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a function that reads a whole number within these limits."""
    limits = f", at least {least}" if most is None else f" from {least} to {most}"

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= (int(text) if most is None else most):
            raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number{limits}")
        return int(text)

    return read


def above_zero(*, most: float, expected: str) -> Callable[[str], float]:
    """Return a function that reads a number above 0 and up to `most`; `expected` describes it in words."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"{text!r}, expected {expected}")
        return value

    return read


count = whole(least=1)


def add_machine_options(parser: argparse.ArgumentParser, *, on_ray: str) -> None:
    """Add the options for the machine and the precision with which a bundle answers; `on_ray` describes Ray's part."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="default: cuda on a machine with a GPU, else cpu",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("auto", "bf16", "fp32"), help="default: fp32, in which evaluate judged the bundle"
    )
    parser.add_argument("--minibatch-size", type=count, help="samples; default: 16 on cpu, 256 on cuda")
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help=f"local: the cores of this machine; ray: {on_ray}; default: local",
    )  # fmt: skip
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="of the head of the Ray cluster; default: RAY_ADDRESS, or this machine"
    )
