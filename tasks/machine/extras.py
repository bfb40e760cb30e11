"""The optional packages of this project: what an extra brings, and what to do where it is missing."""

from importlib.util import find_spec

# modules, by extra of pyproject.toml
PACKAGES = {
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "ray": ("ray",),
    "text": ("huggingface_hub", "tokenizers", "transformers"),
    "timm": ("timm",),
    "transformers": ("transformers",),
}


class MissingExtraError(ValueError):
    """Packages that this work needs are not installed."""


def require(extra: str) -> None:
    """Raise MissingExtraError, with what to do, where a package of the extra is not installed."""
    missing = [name for name in PACKAGES[extra] if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        needs = f"the package {extra}" if missing == [extra] else f"{extra} needs {' and '.join(missing)}, which"
        raise MissingExtraError(
            f"{needs} {verb} not installed: run `make setup EXTRAS={extra}`, or `pip install -e '.[{extra}]'` in the "
            "clone"
        )
