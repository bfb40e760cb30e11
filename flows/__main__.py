"""The command `graftline`: it starts a door of flows/ or a verb of tasks/ by name, as `python -m` does."""

import ast
import os
import sys
from pathlib import Path

from flows.workspace.redaction import in_a_line

HERE = Path(__file__).parent
TASKS = HERE.with_name("tasks")
# other names for commands: the module, and the first words of its command line
OTHER_NAMES = {
    "rollback": ("flows.promote", ["--rollback"], "Goes back to a model that was in use before."),
    "schedule": ("flows.serve", [], "Runs what prefect.yaml schedules, from this process."),
}
OF_MODEL_IN_USE = ("predict", "serve")  # verbs that ask the model in use, unless a person names another
OWN_BUNDLE = "--bundle"


def main() -> None:
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return
    try:
        module, first = command_of(words[0], words[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {in_a_line(error)}")
    # a working copy runs its own code; elsewhere folders of the current directory are not imported as ours
    apart = [] if Path("dvc.yaml").is_file() and Path("flows/__main__.py").is_file() else ["-P"]
    os.execv(sys.executable, [sys.executable, *apart, "-m", module, *first, *words[1:]])  # noqa: S606


def command_of(name: str, rest: list[str]) -> tuple[str, list[str]]:
    """Return the module behind a name, and the words that come before the person's own.

    Raises:
        ValueError: there is no such name, or the command needs a model and none is in use.
    """
    if name in OTHER_NAMES:
        module, first, _ = OTHER_NAMES[name]
        return module, first
    if name in OF_MODEL_IN_USE:
        is_named = {OWN_BUNDLE, "-h", "--help"} & {word.split("=")[0] for word in rest}
        return f"tasks.{name}", [] if is_named else in_use()
    for folder in (HERE, TASKS):
        if name in modules(folder):
            return f"{folder.name}.{name}", []
    raise ValueError(f"graftline has no command {name}: `graftline --help` lists them")


def in_use() -> list[str]:
    """Return the option that names the bundle of the model in use."""
    from flows.workspace import paths  # reads YAML, which no other command needs here

    baseline = paths.baseline()
    if not baseline.is_dir():
        raise ValueError(
            "no model is in use: `graftline promote` puts an accepted candidate in use, `dvc pull` fetches the model "
            "of a clone, and --bundle names any other"
        )
    return [OWN_BUNDLE, str(baseline)]


def usage() -> str:
    """Return the list of commands, with the first sentence of each module's docstring."""
    doors = {name: sentence_of(HERE / f"{name}.py") for name in modules(HERE)}
    doors |= {name: sentence for name, (_, _, sentence) in OTHER_NAMES.items()}
    doors |= {name: sentence_of(TASKS / f"{name}.py") for name in OF_MODEL_IN_USE}
    lines = [f"  {name:10} {sentence}" for name, sentence in sorted(doors.items())]
    return "\n".join(
        [
            "usage: graftline COMMAND …",
            "",
            *lines,
            "",
            "`graftline COMMAND --help` explains a command. The stages are commands too: `python -m tasks` lists them.",
            "",
        ]
    )


def modules(folder: Path) -> list[str]:
    """Return the modules at the root of a package that a person can run."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))


def sentence_of(file: Path) -> str:
    """Return the first sentence of a module's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").split())
    return text.split(". ")[0].split(": `")[0].removesuffix(".") + "."


if __name__ == "__main__":
    main()
