"""Describe the last run's result for each domain: a row for each domain and target, and a line for people."""

from typing import Any

from flows.in_use.verdict import read_object
from flows.workspace import paths
from tasks.machine.names import on_one_line

ADVICE = "run `dvc repro adapt` again"
OWN, GENERAL = "of its own", "general"
NOT_JUDGED = "not judged: no held-out sample has a label"


def domains(metrics: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row for each domain and target; none where a project adapts to no domain, or has not run yet.

    Args:
        metrics: as `evaluate` writes them.

    Raises:
        ValueError: the file of the domains is damaged.
    """
    file = paths.adaptation() / "adaptation.json"
    if not file.is_file():
        return []
    return [
        {
            "domain": on_one_line(name),
            "target": on_one_line(target),
            "samples": f"{facts['num_samples']:,}",
            "labels": f"{facts['num_labels']:,}",
            "told apart (AUC)": f"{facts['separation']['auc']:.3f}",
            "head": OWN if facts_of_target["is_adapted"] else GENERAL,
            "method": method_of(facts_of_target),
            "answers changed": f"{facts_of_target['changed']:.1%}",
            "held-out accuracy": judged(metrics.get(target, {}).get("domains", {}).get(name))
            if facts_of_target["is_adapted"]
            else "",
        }
        for name, facts in read_object(file, advice=ADVICE)["domains"].items()
        for target, facts_of_target in facts["targets"].items()
    ]


def method_of(facts: dict[str, Any]) -> str:
    """Return the way the head was adapted: a method, else the labels or the domain's own statistics."""
    if facts["method"] != "source" or not facts["is_adapted"]:
        return str(facts["method"])
    return "its labels" if facts.get("labels", "adapted") != "adapted" else "statistics of its own"


def judged(measured: dict[str, Any] | None) -> str:
    """Return the accuracy on a domain, with that of the general head beside it."""
    if not measured or not measured["num_samples"]:
        return NOT_JUDGED
    accuracies = [f"{measured['candidate']['accuracy']:.4f}"]
    if "general" in measured:
        accuracies.append(f"general head {measured['general']['accuracy']:.4f}")
    return f"{', '.join(accuracies)}, on {measured['num_samples']:,} samples"


def line_of(row: dict[str, str]) -> str:
    """Return a row as a line for a terminal."""
    name, accuracy = f"{row['domain']}, {row['target']}", row["held-out accuracy"]
    if row["head"] == GENERAL:
        return f"{name}: not adapted, the general head answers"
    result = accuracy if accuracy == NOT_JUDGED else f"accuracy {accuracy}"
    return f"{name}: {row['method']}, {row['answers changed']} of its answers changed; {result}"
