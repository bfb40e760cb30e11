"""Describe the last run in lines for a person: the held-out metrics, the verdict, the page, and the next step."""

from flows.in_use.domains import domains, line_of
from flows.in_use.measures import error_in_words
from flows.in_use.next_step import next_command
from flows.in_use.verdict import ADVICE, read_object, read_verdict
from flows.workspace import paths


def outcome() -> list[str]:
    """Return the held-out table, the domains to adapt to, the verdict, the page and the next command.

    Nothing is returned where no candidate was judged.

    Raises:
        ValueError: a file is damaged.
    """
    if not (paths.verdict().is_file() and paths.metrics().is_file()):
        return []
    verdict = read_verdict()
    lines = [f"Held-out metrics, {verdict['num_heldout']} samples that no training used"]
    metrics = read_object(paths.metrics(), advice=ADVICE)
    for target, models in metrics.items():
        for name, measured in models.items():
            if name == "domains":  # their names are no measures
                continue
            if "unit" in models:
                if isinstance(measured, dict) and "error" in measured:
                    interval = measured.get("intervals", {}).get("error")
                    error = error_in_words(measured["error"], models["unit"], interval=interval)
                    lines.append(f"  {target}, {name:9}  error {error}")
            elif "accuracy" in measured:
                interval = " to ".join(f"{end:.3f}" for end in measured["intervals"]["accuracy"])
                lines.append(
                    f"  {target}, {name:9}  accuracy {measured['accuracy']:.4f} ({interval})"
                    f"  macro F1 {measured['macro_f1']:.4f}  log-loss {measured['log_loss']:.4f}"
                )
    if adapted := domains(metrics):
        lines += ["", "Domains", *(f"  {line_of(row)}" for row in adapted)]
    lines += ["", f"Gate: the candidate is {verdict['verdict']}"]
    lines += [f"  undecided  {doubt}" for doubt in verdict.get("doubts", [])]
    lines += [f"  {'pass' if rule['passed'] else 'FAIL'}  {rule['text']}" for rule in verdict["rules"]]
    page = paths.report()
    lines += ["", f"Report   {page.resolve()}   (graftline report opens it)"] if page.is_file() else [""]
    return [*lines, f"Next     {next_command(verdict)}"]
