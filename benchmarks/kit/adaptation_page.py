"""Write the tables of docs/adaptation.md from the results of `benchmarks.{adaptation,alignment,normalisation}`.

`python -m benchmarks.kit.adaptation_page` replaces the text between the marks `<!-- NAME -->` and `<!-- /NAME -->` of
the page; the rest is written by hand.
"""

from collections import Counter
from typing import Any

from benchmarks.kit.transfer_page import ROOT, read, replaced

PAGE = ROOT / "docs/adaptation.md"
COLUMNS = {
    "source": "source-only",
    "auto": "auto",
    "standardise": "standardise",
    "infomax": "infomax",
    "label_shift": "label_shift",
    "reweight": "reweight",
    "coral": "CORAL",
    "mmd": "MMD",
    "dann": "DANN",
}


def main() -> None:
    result = read("adaptation")
    page = PAGE.read_text("utf-8")
    page = replaced(page, "cases", cases_table(result["raw"]["cases"]))
    page = replaced(page, "claims", claims_table(result["claims"], result["raw"]["half_widths"]))
    page = replaced(page, "alignment", alignment_table(read("alignment")["raw"]["means"]))
    page = replaced(page, "normalisation", normalisation_table(read("normalisation")["raw"]))
    PAGE.write_text(page, "utf-8")


def cases_table(cases: list[dict[str, Any]]) -> str:
    """Return a row for each case: accuracies in per cent, and the gain of auto with its interval and its methods."""
    lines = ["| case | " + " | ".join(COLUMNS.values()) + " | gain of auto | auto chose |"]
    lines.append("|" + "---|" * (len(COLUMNS) + 3))
    for case in cases:
        known = case["accuracy"]
        accuracies = " | ".join(f"{known[name]:.1f}" if name in known else "" for name in COLUMNS)
        width = case["gain_half_width"]
        gain = f"{case['gain']:+.1f}" + (f" ± {width:.1f}" if width is not None else "")
        chosen = Counter(run["method"] for run in case["auto"])
        lines.append(f"| {case['case']} | {accuracies} | {gain} | {', '.join(map(times, chosen.items()))} |")
    return "\n".join(lines) + "\n"


def normalisation_table(cases: list[dict[str, Any]]) -> str:
    """Return a row for each case and network: accuracies by statistics and head, the gain of `own`, its interval."""
    lines = ["| case | network | general head | source-only | auto | source-only, own | auto, own | gain of own |"]
    lines.append("|" + "---|" * 8)
    for case in cases:
        general = f"{case['shared']['general']:.1f}" if case["is_tuned"] else ""
        accuracies = (case[statistics][head] for statistics in ("shared", "own") for head in ("source", "auto"))
        shown = " | ".join(f"{accuracy:.1f}" for accuracy in accuracies)
        width = case["gain_half_width"]
        gain = f"{case['gain']:+.1f}" + (f" ± {width:.1f}" if width is not None else "")
        network = "fine-tuned" if case["is_tuned"] else "frozen"
        lines.append(f"| {case['case']} | {network} | {general} | {shown} | {gain} |")
    return "\n".join(lines) + "\n"


def times(chosen: tuple[str, int]) -> str:
    return f"{chosen[0]} {chosen[1]} x"


def alignment_table(means: list[dict[str, Any]]) -> str:
    """Return a row for each training: accuracies of general and adapted head, in per cent, and how often val took it.

    Those of the last epoch stand in brackets where val chose another.
    """
    by_run = {(entry["case"], entry["training"]): entry for entry in means}
    cases = list(dict.fromkeys(case for case, _ in by_run))
    heads = [f"{case.replace('_', ' → ')}, {head}" for case in cases for head in ("general head", "adapted head")]
    lines = ["| training | " + " | ".join(heads) + " | taken by val |", "|" + "---|" * (len(heads) + 2)]
    for training in dict.fromkeys(training for _, training in by_run):
        entries = [by_run[case, training] for case in cases]
        cells = []
        for entry in entries:
            for head in ("general", "infomax"):
                last = entry.get(f"last_{head}", entry[head])
                cells.append(f"{entry[head]:.1f}" + (f" ({last:.1f})" if last != entry[head] else ""))
        taken = ""
        if training != "frozen":
            taken = (
                f"{sum(entry['num_finetuned'] for entry in entries)} of {sum(entry['num_runs'] for entry in entries)}"
            )
        lines.append(f"| {training} | {' | '.join(cells)} | {taken} |")
    return "\n".join(lines) + "\n"


def claims_table(claims: list[dict[str, Any]], half_widths: dict[str, float | None]) -> str:
    lines = ["| claim | measured | target | holds |", "|---|---|---|---|"]
    for claim in claims:
        name = claim["name"].removeprefix("adaptation.")
        width = half_widths.get(claim["name"])
        value = f"{claim['value']:.3g}" + (f" ± {width:.2g}" if width else "")
        lines.append(f"| {name} | {value} | {claim['target']:g} | {'yes' if claim['holds'] else 'no'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
