"""The arguments of a verb, from the signature of its `run`, which is read and not imported: help needs no torch."""

import argparse
import ast
import os
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from tasks.machine.lifeline import STARTED_BY_DVC

ROOT = Path(__file__).parents[2]
HELP = {"-h", "--help"}
# an argument means the same in every verb, unless the section `Args:` of `run` describes it
MEANINGS = {
    "adaptation": "the folder that adapt wrote: the results of each domain",
    "anchor": "the JSON file with the errors of the best model that was in use",
    "audit": "the folder that audit wrote: the leaks, and the limits of a near-copy",
    "backbone": "the bundle of the pretrained backbone",
    "backbones": "the folder of weights files",
    "baseline": "the bundle of the model in use",
    "baseline_record": "the JSON file with the digests of the model in use",
    "batches": "the YAML file that lists the batches",
    "bundle": "the folder of a model",
    "candidate": "the bundle of the candidate",
    "card": "the Markdown file about the weights that is written too",
    "classes": "the JSON file with the classes of every target",
    "code": "the folder of the verbs and their rooms",
    "corrections": "the CSV file of people's corrections, a row for each decision",
    "curves": "the folder that the learning curves go to",
    "damaged": "remove the values that do not match their checksums",
    "decisions": "the file with a line of JSON for each candidate that was judged",
    "embeddings": "the folder of vectors, a safetensors file for each batch",
    "evaluation": "the folder that evaluate wrote: predictions and metrics",
    "hashes": "perceptual hashes: a batch's safetensors file, or the folder of all batches",
    "head": "the folder of the trained head",
    "health": "the folder of the audit's findings about the health of the data",
    "manifest": "the manifest of the batch, a Parquet file",
    "manifests": "the folder of the manifest, a Parquet file for each batch",
    "out": "the file or folder that is written; it appears once it is whole",
    "predictions": "the Parquet file of predictions that evaluate wrote",
    "raw": "the folder of the raw batches",
    "recipe": "remove the recipe whose fingerprint begins with this",
    "registry": "the JSON file with the classes of the model in use",
    "regression": "the folder that regression wrote: the verdict",
    "scanned": "the folder of scanned batches",
    "scratch": "the folder of checkpoints and activations, which may be deleted at any time",
    "split": "the JSON file with the rule of the split",
    "start": "the bundle of the model that was in use when the newest batch landed",
    "start_record": "the JSON file with the digests of that model",
    "store": "the folder of the embedding store",
    "tests": "the folder of the gate's tests",
    "training": "the folder of learning curves",
    "unused_since": "remove the values that no run used since a day such as 2026-01-31",
    "validated": "the folder that validate wrote",
}

# a variable that moves a folder of this machine; dvc.yaml has the usual place
MOVED_BY = {"store": "GRAFTLINE_STORE", "scratch": "GRAFTLINE_SCRATCH"}


def day(text: str) -> date:
    """Return the day that a text such as 2026-01-31 names."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day, expected one such as 2026-01-31") from None


FROM_SHELL: dict[str, dict[str, Any]] = {  # how an argument is read, by its annotation
    "Path": {"type": Path, "required": True},
    "Path | None": {"type": Path},
    "str | None": {},
    "date | None": {"type": day},
    "bool": {"action": "store_true"},
}


@dataclass(frozen=True, kw_only=True)
class Verb:
    """The parser of a verb, and the sections of params.yaml that its `run` takes."""

    parser: argparse.ArgumentParser
    sections: list[str]


def verb_of(file: Path, *, has_params: bool) -> Verb:
    """Return the arguments of the verb in a file. A parameter of `run` that is not in FROM_SHELL is a section."""
    run = _run(file)
    assert run, f"{file} has no function `run`"
    docstring = ast.get_docstring(run) or ""
    text, _, described = docstring.partition("\n\nArgs:\n")
    meanings = {name: meaning for name, _, meaning in (line.strip().partition(": ") for line in described.splitlines())}
    parameters = {
        argument.arg: ast.unparse(argument.annotation) for argument in run.args.kwonlyargs if argument.annotation
    }
    from_shell = {name: hint for name, hint in parameters.items() if hint in FROM_SHELL}
    sections = [name for name in parameters if name not in from_shell]
    parser = argparse.ArgumentParser(prog=f"python -m {_module(file)}", description=f"{sentence_of(file)} {text}")
    if has_params:
        read = f" (this verb reads {', '.join(sections)})" if sections else ""
        parser.add_argument("--params", type=Path, default=Path("params.yaml"), help=f"default: params.yaml{read}")
    for name, hint in from_shell.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", help=meanings.get(name, MEANINGS.get(name)), **FROM_SHELL[hint]
        )
    return Verb(parser=parser, sections=sections)


def moved(verb: Verb) -> dict[str, Path]:
    """Return the folders that the environment moves to another place, by argument.

    They count for a stage that DVC runs. A person who types a place means that place.
    """
    if STARTED_BY_DVC not in os.environ:
        return {}
    names = {action.dest for action in verb.parser._actions} & MOVED_BY.keys()
    return {name: Path(os.environ[MOVED_BY[name]]) for name in sorted(names) if os.environ.get(MOVED_BY[name])}


def show_help(words: list[str]) -> None:
    """Print the help of the verb that `python -m tasks.VERB --help` names, and exit; do nothing for another command.

    Args:
        words: of the command line, with those for Python itself.
    """
    if "-m" not in words[:-1]:
        return
    file = ROOT.joinpath(*words[words.index("-m") + 1].split(".")).with_suffix(".py")
    if file.is_file() and _run(file):
        verb_of(file, has_params="import main" in file.read_text("utf-8")).parser.print_help()
        sys.exit()


def sentence_of(file: Path) -> str:
    """Return the first sentence of a module's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(file.read_bytes())) or "").split())
    return text.split(". ")[0].removesuffix(".") + "."


def _run(file: Path) -> ast.FunctionDef | None:
    """Return the function `run`, if the module leaves it to `tasks.stage` to call it from the shell."""
    functions = {node.name: node for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.FunctionDef)}
    return None if "main" in functions else functions.get("run")


def _module(file: Path) -> str:
    """Return the module as the shell names it; Python calls it __main__."""
    return ".".join(file.resolve().relative_to(ROOT).with_suffix("").parts)
