"""Runs a verb that reads params.yaml from the shell: `python -m tasks.embed --raw … --out …`."""

from functools import partial

from tasks.stage.params import load_params, section
from tasks.stage.shell import Run, run_verb


def main(run: Run, arguments: list[str] | None = None) -> None:
    """Do what `tasks.stage.shell.run_verb` does, with the sections of the params.yaml that `--params` names."""
    run_verb(run, arguments, load=lambda path: partial(section, load_params(path)))
