"""Facts of domains, as `adapt` writes them, and held-out measures of domains, as `evaluate` does."""

from collections.abc import Sequence
from typing import Any


def domain(
    targets: dict[str, dict[str, Any]] | None = None,
    *,
    classes: Sequence[str] = ("cat", "dog"),
    num_samples: int = 500,
    num_labels: int = 0,
    sources: dict[str, int] | None = None,
    auc: float = 0.97,
    z: float = 28.1,
    is_adapted: bool = True,
    **facts: Any,
) -> dict[str, Any]:
    """Return the facts of a domain. Without `targets` it has one, `label`, adapted by infomax, with these `facts`."""
    labelled = {"num_labels": num_labels} if num_labels else {}
    return {
        "num_samples": num_samples,
        "num_labels": num_labels,
        "sources": sources or {"photo": 1200},
        "separation": {"auc": auc, "z": z},
        "is_adapted": is_adapted,
        "targets": targets or {"label": of_target(classes, is_adapted=is_adapted, **labelled | facts)},
    }


def of_target(classes: Sequence[str] = ("cat", "dog"), **facts: Any) -> dict[str, Any]:
    """Return the facts of a target that is adapted by infomax; the shares of `classes` turn round."""
    total = len(classes) * (len(classes) + 1) / 2
    shares = [(place + 1) / total for place in range(len(classes))]
    return {
        "method": "infomax",
        "asked": "auto",
        "reason": "the domains are far apart",
        "changed": 0.234,
        "is_adapted": True,
        "separation": {"auc": 0.97, "z": 28.1},
        "shares": dict(zip(classes, shares, strict=True)),
        "estimated": dict(zip(classes, shares[::-1], strict=True)),
        "l2": 0.01,
    } | facts


def judged(num_samples: int = 40, *, adapted: float = 0.75, general: float = 0.5) -> dict[str, Any]:
    """Return the measures of a domain's held-out samples."""

    def of_model(accuracy: float) -> dict[str, Any]:
        return {"accuracy": accuracy, "intervals": {"accuracy": [accuracy - 0.125, accuracy + 0.125]}}

    flips = {"positive": 12, "negative": 2, "num_samples": num_samples, "p_value": 0.99}
    return {
        "num_samples": num_samples,
        "candidate": of_model(adapted),
        "general": of_model(general),
        "flips": flips,
    }
