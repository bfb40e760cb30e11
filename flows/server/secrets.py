"""Secrets that Prefect keeps. A run puts them into its environment, which all its child processes inherit.

Prefect shows a flow's parameters to everybody, so a parameter only has the names of variables and blocks.
"""

import argparse
import json
import os
import re
from typing import Annotated

from pydantic import StringConstraints

from flows.workspace.redaction import NAMED

NAME = re.compile(r"^[a-z0-9-]+$")  # Prefect's rule for the name of a block; a secret rarely obeys it

# names by which a program chooses the code to run, the settings to read or the server to ask; no secret has one
STEERING = re.compile(
    r"^(PYTHON|PERL|RUBY|BASH|TORCH|LESS)"
    r"|^(LD|DYLD|GIT|DVC|PREFECT|GRAFTLINE|SSH|XDG|NODE|NPM|PIP|UV|JAVA|JDK|OMP|GOMP|CUDA|GX|MALLOC|OPENSSL|GLIBC"
    r"|FSSPEC|TRITON)_"
    r"|^(ENV|IFS|PS4|USER|VISUAL|TMP|TEMP|CC|CXX|AR|HOSTALIASES)$|ENDPOINT|EMULATOR_HOST|METADATA_HOST"
    r"|(PATH|SHELL|HOME|EDITOR|PAGER|BROWSER|CONFIG|CONF|FILE|DIR|PROXY|PRELOAD|BUNDLE|OPTS|OPTIONS|FLAGS|COMMAND)$"
    r"|(ASKPASS|_RSH)$"
)

Secrets = dict[str, Annotated[str, StringConstraints(pattern=NAME.pattern)]]  # variable: block


def take_secrets(secrets: Secrets) -> None:
    """Put the blocks' values into the environment.

    Raises:
        ValueError: a block is missing, or a variable must not hold a secret.
    """
    from prefect.blocks.system import Secret

    for variable, name in secrets.items():
        check_variable(variable)
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


def check_variable(name: str) -> None:
    """Raise ValueError if a variable of that name could make a program run other code."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or STEERING.search(name.upper()):
        raise ValueError(
            f"the secrets name the variable {name[:64]!r}, expected one that holds a password or a key, such as "
            "AWS_SECRET_ACCESS_KEY: this one could make a program run other code"
        )


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
    try:
        check_variable(variable)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return variable, name
