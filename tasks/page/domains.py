"""Describe each domain for the page: how it differs, what was done about it, and the samples most unlike the rest."""

from pathlib import Path
from typing import Any

import pandas as pd

from tasks.data.manifest.tables import read_text_table
from tasks.machine.files import read_json
from tasks.page.comparison import cells_of

MAX_SHARES = 40  # classes of a domain on the page; adaptation.json has them all
# as tasks.training.alignment.gate has them: below, a difference is not acted on
LEAST_AUC = 0.6
LEAST_Z = 3.0
METHODS = {
    "standardise": "every feature has the same mean and the same deviation in each domain",
    "infomax": "each domain is standardised by itself, then the head is moved until its answers are sure and spread "
    "over the classes",
    "infomax_as_is": "the head is moved until its answers are sure and spread over the classes",
    "joint": "the answers are moved to the estimated shares of the classes, and the features' shift is undone at them",
    "label_shift": "the answers are moved to the estimated shares of the classes",
    "reweight": "a sample of the sources counts as much as it resembles this domain",
    "align": "the domains are made alike",
}
ALIGNED = {"coral": "by CORAL", "mmd": "by a map that MMD trains", "dann": "by a map that DANN trains"}
LABELLED = {
    "adapted": "adapted without labels",
    "informed": "the sources and these labels, with the information on the unlabelled samples",
    "pooled": "the sources and these labels, each with half of the weight",
    "towards": "these labels, with a pull to the adapted head",
    "propagated": "the sources and these labels, spread to their neighbours",
}
SIDES = ("target", "source")  # of unlike.csv, in the order of the page


def read_domains(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the domains of adaptation.json, and the samples of unlike.csv, of each side the most unlike first.

    The table has the columns domain, side (of SIDES), batch, path and sample_id.
    """
    return read_json(folder / "adaptation.json")["domains"], read_text_table(folder / "unlike.csv")


def bounded(unlike: pd.DataFrame, *, limit: int) -> pd.DataFrame:
    """Return about `limit` samples: of each domain and side an equal share, and at least one, in the table's order."""
    sides = unlike.groupby(["domain", "side"], sort=False)
    return sides.head(max(limit // max(sides.ngroups, 1), 1)).reset_index(drop=True)


def describe_domains(
    domains: dict[str, Any], unlike: pd.DataFrame, *, metrics: dict[str, Any], previews: dict[str, str]
) -> list[dict[str, Any]]:
    """Return the facts of every domain for the page.

    Args:
        domains: facts by name, as `adapt` writes them.
        unlike: the samples to show.
        metrics: as `evaluate` writes them; a target has `domains` where held-out samples of them have labels.
        previews: by sample_id, of the samples that may be shown.
    """
    return [
        {
            "name": name,
            "num_samples": facts["num_samples"],
            "num_labels": facts["num_labels"],
            "sources": facts["sources"],
            "separation": separation(facts["separation"]),
            "is_adapted": facts["is_adapted"],
            "targets": [
                described(target, result) | {"judged": judged(metrics.get(target, {}).get("domains", {}).get(name))}
                for target, result in facts["targets"].items()
            ],
            "sides": [
                {"side": side, "rows": shown}
                for side in SIDES
                for rows in [unlike[(unlike["domain"] == name) & (unlike["side"] == side)].to_dict("records")]
                if (shown := [row | {"preview": previews.get(row["sample_id"])} for row in rows])
            ],
        }
        for name, facts in domains.items()
    ]


def separation(seen: dict[str, float]) -> dict[str, Any]:
    """Return the area under the ROC curve, its place on a scale 0..100 from chance to certainty, and what it means."""
    is_apart = seen["auc"] >= LEAST_AUC and seen["z"] >= LEAST_Z
    place = 200 * (min(max(seen["auc"], 0.5), 1.0) - 0.5)
    return seen | {"is_apart": is_apart, "place": place}


def described(target: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the adaptation for a target of a domain in words, with the shares of its classes before and after."""
    method, labels = facts["method"], facts.get("labels")
    words = METHODS.get(method)
    if method == "align" and facts.get("align") in ALIGNED:
        words = f"{words} {ALIGNED[facts['align']]}"
    return {
        "name": target,
        "is_adapted": facts["is_adapted"],
        "method": method,
        # labels may move the head of a domain for which no method without labels does anything
        "is_by_labels": method == "source" and labels not in (None, "adapted"),
        "has_statistics": facts.get("statistics") == "own",
        "asked": facts["asked"],
        "words": words,
        "reason": facts.get("reason"),
        "changed": facts["changed"],
        "shares": shares(facts) if "estimated" in facts else [],
        "num_classes": len(facts.get("estimated", ())),
        "labels": labels and {"chosen": LABELLED.get(labels, labels), "candidates": candidates(facts)},
        "num_labels": facts.get("num_labels", 0),
        "effective": facts.get("effective_samples"),
        "flattened": facts.get("effective_samples_flattened"),
        "absent_classes": facts.get("absent_classes", {}),
        "constant_features": facts.get("constant_features", 0),
    }


def shares(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the classes whose share changes most first, at most MAX_SHARES, with lengths of bars on 0..100."""
    pairs = [(name, facts["shares"].get(name, 0.0), here) for name, here in facts["estimated"].items()]
    pairs.sort(key=lambda pair: -abs(pair[2] - pair[1]))
    longest = max((max(pair[1:]) for pair in pairs), default=0.0) or 1.0
    return [
        {"name": name, "before": before, "here": here, "bars": (100 * before / longest, 100 * here / longest)}
        for name, before, here in pairs[:MAX_SHARES]
    ]


def candidates(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the heads that the domain's labels were asked about, the best Brier score first."""
    scores = sorted(facts.get("brier", {}).items(), key=lambda entry: entry[1])
    return [
        {"words": LABELLED.get(name, name), "brier": score, "is_chosen": name == facts["labels"]}
        for name, score in scores
    ]


def judged(measured: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the held-out accuracy of each model on a domain; None where no held-out sample of it has a label."""
    if not measured or not measured["num_samples"]:
        return None
    cells = cells_of("accuracy", measured)
    return {"num_samples": measured["num_samples"], "cells": cells, "flips": measured["flips"]}
