"""The methods of adaptation that skada has, on the same vectors: each as its documentation says to use it.

`pip install --target FOLDER skada` puts it beside the project, and `--skada FOLDER` names the folder.
"""

import importlib
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.domain_cases import Case
from tasks.training.alignment.source_only import STRENGTHS

# our method, by its name in the benchmark: the steps of skada's pipeline
ADAPTERS = {
    "standardise": "PerDomain",
    "coral": "CORALAdapter",
    "reweight": "DiscriminatorReweightAdapter",
    "kernel": "KMMReweightAdapter",
}
WITH_WEIGHTS = ("reweight", "kernel")


def find_skada(folder: Path | None) -> tuple[Any, str | None]:
    """Return skada, or None and the reason why it cannot be measured."""
    if folder:
        sys.path.append(str(folder))  # behind our own packages
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("skada"), None
    except ImportError as error:
        return None, f"skada is not importable ({error}): pip install --target FOLDER skada, then --skada FOLDER"


def peers(skada: Any) -> dict[str, Callable[[Case], dict[str, float]]]:
    return {name: partial(run, skada, name) for name in ADAPTERS}


def run(skada: Any, name: str, case: Case) -> dict[str, float]:
    """Return accuracy and processor seconds. The strength is chosen as ours is: among the same, on the source's val."""
    both = np.concatenate([case.train[0], case.unlabelled])
    domain = np.repeat([1, -2], [len(case.train[0]), len(case.unlabelled)])
    known = np.concatenate([case.train[1], np.full(len(case.unlabelled), -1)])
    best, least = None, np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.process_time()
        for l2 in STRENGTHS:
            pipeline = make(skada, name, C=1 / (l2 * len(case.train[1]))).fit(both, known, sample_domain=domain)
            p = pipeline.predict_proba(case.val[0], sample_domain=np.ones(len(case.val[0])), allow_source=True)
            loss = -np.log(np.maximum(p[np.arange(len(p)), case.val[1]], 1e-12)).mean()
            if loss < least:
                best, least = pipeline, loss
        seconds = time.process_time() - start
        assert best is not None
        predicted = best.predict(case.judges[0], sample_domain=np.full(len(case.judges[1]), -2))
    return {"accuracy": float((predicted == case.judges[1]).mean()), "seconds": seconds}


def make(skada: Any, name: str, **settings: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    head = LogisticRegression(max_iter=1000, **settings)
    if name in WITH_WEIGHTS:
        head = head.set_fit_request(sample_weight=True)
    if name == "standardise":
        return skada.make_da_pipeline(skada.PerDomain(StandardScaler()), head)
    return skada.make_da_pipeline(StandardScaler(), getattr(skada, ADAPTERS[name])(), head)
