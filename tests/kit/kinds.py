"""Held-out answers to targets of every kind, and the measures of them, as `evaluate` writes them."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

LABELS = ("even", "has a loop", "is round", "never there")
STEPS = ("poor", "fair", "good", "perfect")
CLASSES = ("cat", "dog", "eel")
MODELS = ("candidate", "head", "baseline")
# how much a model is off, in standard deviations of the truth
SPREADS = {"candidate": 0.15, "head": 0.3, "baseline": 0.4}


def facts(kind: str, *, names: Sequence[str] = (), unit: str = "degrees") -> Any:
    """Return the facts of a target of this kind."""
    return {
        "classes": list(names or CLASSES),
        "several": {"kind": "several", "labels": list(names or LABELS)},
        "ordinal": {"kind": "ordinal", "steps": list(names or STEPS)},
        "number": {"kind": "number", "unit": unit, "level": 0.9, "tolerance": 5.0},
    }[kind]


def answers(samples: pd.DataFrame, target: str, known: Any, *, models: Sequence[str] = MODELS) -> pd.DataFrame:
    """Return the predictions of one target for n samples (sample_id, batch, path), drawn from its name."""
    rng = np.random.default_rng(list(target.encode()))
    n = len(samples)
    rows = samples[["sample_id", "batch", "path"]].assign(target=target, is_leaked=False, is_shared=True)
    kind = "classes" if isinstance(known, list) else known["kind"]
    own: dict[str, Any] = {}
    if kind == "number":
        truth = np.round(rng.uniform(-180, 180, n), 1)
        own |= {"label": [repr(float(value)) for value in truth], "label_value": truth}
        for model in models:
            value = truth + rng.normal(size=n) * SPREADS[model] * 60
            own |= {model: [repr(float(v)) for v in value], f"{model}_value": value, f"{model}_low": value - 14.5,
                    f"{model}_high": value + 15.25, f"{model}_error": np.abs(value - truth),
                    f"{model}_is_right": np.abs(value - truth) <= known["tolerance"]}  # fmt: skip
    elif kind == "several":
        names = np.array(known["labels"], dtype=object)
        is_true = rng.random((n, len(names))) < 0.4
        is_true[:, -1] = False
        own["label"] = [written(names[row]) for row in is_true]
        for model in models:
            p = 1 / (1 + np.exp(-(2 * is_true - 1) * 2 - rng.normal(size=is_true.shape) * SPREADS[model] * 8))
            wrong = (p >= 0.5) != is_true
            own |= {model: [written(names[row]) for row in p >= 0.5], f"{model}_probabilities": list(p),
                    f"{model}_error": wrong.mean(axis=1), f"{model}_is_right": ~wrong.any(axis=1)}  # fmt: skip
    elif kind == "ordinal":
        steps = np.array(known["steps"], dtype=object)
        truth = rng.integers(len(steps), size=n)
        own["label"] = steps[truth]
        for model in models:
            step = np.clip(np.round(truth + rng.normal(size=n) * SPREADS[model] * 3), 0, len(steps) - 1).astype(int)
            own |= {model: steps[step], f"{model}_error": np.abs(step - truth) * 1.0,
                    f"{model}_is_right": step == truth}  # fmt: skip
    else:
        classes = np.array(known, dtype=object)
        truth = rng.integers(len(classes), size=n)
        own["label"] = classes[truth]
        for model in models:
            is_wrong = rng.random(n) < SPREADS[model]
            own |= {model: classes[np.where(is_wrong, (truth + 1) % len(classes), truth)],
                    f"{model}_confidence": np.full(n, 0.75),
                    f"{model}_label_probability": np.where(is_wrong, 0.2, 0.75)}  # fmt: skip
    return rows.assign(**own)


def written(names: Sequence[str]) -> str:
    return json.dumps(sorted(names), ensure_ascii=False, separators=(",", ":"))


def measures(rows: pd.DataFrame, known: Any, *, models: Sequence[str] = MODELS) -> dict[str, Any]:
    """Return the measures of these answers as metrics.json has them; some are made up."""
    kind = "classes" if isinstance(known, list) else known["kind"]
    measured: dict[str, Any] = {} if kind == "classes" else {"kind": kind, "unit": known.get("unit", "steps")}
    for model in models:
        is_right = rows.get(f"{model}_is_right", rows[model] == rows["label"]).astype(float).mean()
        error = 1 - is_right if kind == "classes" else rows[f"{model}_error"].mean()
        values = {"error": float(error)} | {
            "classes": {"accuracy": is_right, "macro_f1": is_right, "log_loss": error, "brier": error,
                        "calibration_error": 0.05},
            "several": {"mean_average_precision": 1 - error, "macro_f1": 1 - error, "micro_f1": 1 - error,
                        "hamming": error},
            "ordinal": {"accuracy": is_right, "mean_distance": error, "quadratic_kappa": 1 - error / 2,
                        "log_loss": error},
            "number": {"mean_absolute_error": error, "root_mean_squared_error": 1.25 * error, "r2": 1 - error / 100,
                       "coverage": 0.9 - error / 1000, "width": 29.75, "within_tolerance": is_right},
        }[kind]  # fmt: skip
        values = {key: float(value) for key, value in values.items()}
        ends = {key: [value - 0.02 * abs(value), value + 0.02 * abs(value)] for key, value in values.items()}
        measured[model] = values | {"intervals": ends, "num_leaked": 0, "error_without_leaks": values["error"]}
        if kind == "classes":
            measured[model] |= {"accuracy_without_leaks": None, "recall": {}}
        if kind == "number":
            measured[model] |= {"level": known["level"], "tolerance": known["tolerance"]}
        if kind == "several":
            has = {
                name: rows["label"].map(lambda cell, name=name: name in json.loads(cell)) for name in known["labels"]
            }
            measured[model]["labels"] = {
                name: {"average_precision": 0.5 + 0.45 / (1 + place) if has[name].any() else None,
                       "f1": 0.75 if has[name].any() else None, "threshold": 0.5, "num": int(has[name].sum())}
                for place, name in enumerate(known["labels"])
            }  # fmt: skip
    if "baseline" in models:
        if kind != "classes":
            change = float((rows["candidate_error"] - rows["baseline_error"]).mean())
            measured["change"] = {"mean": change, "num_samples": len(rows), "p_value": 0.0123}
        measured["flips"] = {"negative": 3, "positive": 9, "num_samples": len(rows), "p_value": 1.0}
    return measured
