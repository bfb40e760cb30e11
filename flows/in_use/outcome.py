"""What the last run found, in lines for a person: the held-out metrics, the verdict, the page, and what is next."""

from flows.in_use.place import digests
from flows.in_use.promotion import is_in_use
from flows.in_use.verdict import ADVICE, read_object, read_verdict
from flows.workspace import paths


def outcome() -> list[str]:
    """Return the held-out table and the verdict. Raises ValueError where a file of them is missing or damaged."""
    verdict = read_verdict()
    lines = [f"Held-out metrics, {verdict['num_heldout']} samples that no training used"]
    for target, models in read_object(paths.metrics(), advice=ADVICE).items():
        for name, measured in models.items():
            if "accuracy" in measured:
                interval = " to ".join(f"{end:.3f}" for end in measured["intervals"]["accuracy"])
                lines.append(
                    f"  {target}, {name:9}  accuracy {measured['accuracy']:.4f} ({interval})"
                    f"  macro F1 {measured['macro_f1']:.4f}  log-loss {measured['log_loss']:.4f}"
                )
    lines += ["", f"Gate: the candidate is {verdict['verdict']}"]
    return [*lines, *(f"  {'pass' if rule['passed'] else 'FAIL'}  {rule['text']}" for rule in verdict["rules"])]


def next_steps() -> list[str]:
    """Return where the page is, and the next command; none where no candidate has been judged."""
    if not paths.verdict().is_file():
        return []
    page = paths.report()
    lines = [f"Report   {page.resolve()}   (graftline report opens it)"] if page.is_file() else []
    return [*lines, f"Next     {next_command()}"]


def next_command() -> str:
    """Return the command that follows from the verdict, with what it does."""
    if read_verdict()["verdict"] != "accepted":
        return 'the page shows why; graftline promote --force --why "…" would put it in use all the same'
    if is_in_use(digests(paths.candidate())):
        return "graftline predict FILE…   the candidate is in use"
    return "graftline promote   puts the candidate in use"
