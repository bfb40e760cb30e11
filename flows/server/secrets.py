"""Secrets that Prefect keeps. A run puts them into its environment, which all that it starts inherits.

Prefect shows a flow's parameters to everybody, so a parameter only has the names of variables and blocks.
"""

import argparse
import json
import os
import re
from typing import Annotated

from prefect.blocks.system import Secret
from pydantic import StringConstraints

from flows.workspace.redaction import NAMED

NAME = re.compile(r"^[a-z0-9-]+$")  # Prefect's rule for the name of a block; a secret rarely obeys it

Secrets = dict[str, Annotated[str, StringConstraints(pattern=NAME.pattern)]]  # variable: block


def take_secrets(secrets: Secrets) -> None:
    """Put the blocks' values into the environment. Raises ValueError where a block is missing."""
    for variable, name in secrets.items():
        try:
            block = Secret.load(name)
        except ValueError as error:
            raise ValueError(
                f"no Secret block {name} is saved in Prefect, and {variable} is to come from it: save it on Prefect's "
                "page under Blocks; `prefect block ls` lists the saved blocks"
            ) from error
        assert isinstance(block, Secret)  # it would be a coroutine in an asynchronous flow
        value = block.value.get_secret_value()
        os.environ[variable] = value if isinstance(value, str) else json.dumps(value)
    os.environ[NAMED] = ",".join({*os.environ.get(NAMED, "").split(","), *secrets})


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--secret` to a command."""
    parser.add_argument(
        "--secret",
        dest="secrets",
        action="append",
        default=[],
        type=_variable_and_block,
        metavar="VARIABLE=BLOCK",
        help="set a variable of the environment from a Secret block of Prefect's; may be repeated",
    )


def _variable_and_block(argument: str) -> tuple[str, str]:
    variable, _, name = argument.partition("=")
    if not (variable and NAME.match(name)):
        raise argparse.ArgumentTypeError("expected a variable and the name of a block, such as DB_PASS=store")
    return variable, name
