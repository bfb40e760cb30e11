"""The optional packages of this project: the modules of an extra, and the advice where it is missing."""

from importlib.util import find_spec

# modules, by extra of pyproject.toml
PACKAGES = {
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("onnx", "openvino"),
    "ray": ("ray",),
    "text": ("huggingface_hub", "tokenizers", "transformers"),
    "timm": ("timm",),
    "transformers": ("transformers",),
}


class MissingExtraError(ValueError):
    """The error of packages that this work needs and that are not installed."""


def missing_packages(extra: str) -> list[str]:
    """Return the packages of the extra that are not installed."""
    return [name for name in PACKAGES[extra] if find_spec(name) is None]


def is_installed(extra: str) -> bool:
    return not missing_packages(extra)


def require(extra: str, *more: str) -> None:
    """Raise MissingExtraError, with advice, where a package of the extra is not installed.

    `more` are modules that come with the extra, and that only some of its work needs.
    """
    if missing := missing_packages(extra) or [name for name in more if find_spec(name) is None]:
        verb = "is" if len(missing) == 1 else "are"
        needs = f"the package {extra}" if missing == [extra] else f"{extra} needs {' and '.join(missing)}, which"
        raise MissingExtraError(
            f"{needs} {verb} not installed: run `make setup EXTRAS={extra}`, or `pip install -e '.[{extra}]'` in the "
            "clone"
        )
