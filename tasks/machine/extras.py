"""The optional packages of this project: what an extra brings, and what to do where it is missing."""

from importlib.util import find_spec

PACKAGES = {"text": ("tokenizers", "transformers")}  # by extra, as pyproject.toml has them


class MissingExtraError(ValueError):
    """Packages that this work needs are not installed."""


def require(extra: str) -> None:
    """Raise MissingExtraError, with what to do, where a package of the extra is not installed."""
    missing = [name for name in PACKAGES[extra] if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(
            f"{extra} needs {' and '.join(missing)}, which {verb} not installed: run `make setup EXTRAS={extra}`, or "
            f"`pip install -e '.[{extra}]'` in the clone"
        )
