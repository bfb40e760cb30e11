"""Secrets that Prefect keeps: names of variables and of its Secret blocks in; the blocks' values, in the environment of all that a run
starts, out. Prefect shows a flow's parameters to everybody, so they are names alone."""

import argparse
import json
import os
import re
from typing import Annotated

from prefect.blocks.system import Secret
from pydantic import StringConstraints

from flows.workspace.redaction import NAMED

NAME = re.compile(r"^[a-z0-9-]+$")  # as Prefect has it of a block; the secret itself rarely looks like that

Secrets = dict[str, Annotated[str, StringConstraints(pattern=NAME.pattern)]]  # variable: block


def take_secrets(secrets: Secrets) -> None:
    """Raises ValueError where there is no such block."""
    for variable, name in secrets.items():
        try:
            block = Secret.load(name)
        except ValueError as error:
            raise ValueError(
                f"no Secret block {name} is saved in Prefect, and {variable} is to come from it: save it in the page under Blocks; "
                "`prefect block ls` lists those that are"
            ) from error
        assert isinstance(block, Secret)  # no coroutine
        value = block.value.get_secret_value()
        os.environ[variable] = value if isinstance(value, str) else json.dumps(value)
    os.environ[NAMED] = ",".join({*os.environ.get(NAMED, "").split(","), *secrets})


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret",
        dest="secrets",
        action="append",
        default=[],
        type=_variable_and_block,
        metavar="VARIABLE=BLOCK",
        help="a variable of the environment, from a Secret block of Prefect's; may be given again",
    )


def _variable_and_block(given: str) -> tuple[str, str]:
    variable, _, name = given.partition("=")
    if not (variable and NAME.match(name)):
        raise argparse.ArgumentTypeError("expected a variable and the name of a block, such as DB_PASS=store")
    return variable, name
