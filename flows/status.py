"""Shows what is in use and since when, what is stale, what waits, and what the last run found: `graftline status`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator

from flows.workspace.redaction import in_a_line
from tasks.machine.names import on_one_line

Line = tuple[str, str]  # the subject, and the statement about it


def main(words: list[str] | None = None) -> None:
    argparse.ArgumentParser(prog="graftline status", description=__doc__).parse_args(words)
    try:
        for about, line in status():
            sys.stdout.write(f"{about:10} {on_one_line(line)}\n")
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {in_a_line(error)}")


def status() -> Iterator[Line]:
    """Yield the lines. Raises ValueError where a file of this project is damaged."""
    from flows.workspace.batches import extent_of, listed, tracked

    yield "in use", in_use()
    names = listed()
    files = sum(extent_of(name)[0] for name in names if name in tracked().values())
    counted = f"{len(names):,} listed, {files:,} files" if names else "none yet: `graftline train DATA`"
    yield "batches", counted
    done = subprocess.run([sys.executable, "-m", "flows.stale"], capture_output=True, text=True, check=False)
    yield "stale", (done.stdout or done.stderr).strip()
    for line in waiting():
        yield "waits", line
    yield "last run", last_run()
    for line in adapted():
        yield "domain", line


def in_use() -> str:
    """Return the model in use, since when, and its accuracy, or error for targets of other kinds than classes."""
    from flows.in_use.log import read_log
    from flows.in_use.measures import error_in_words

    entries = read_log()
    if not entries:
        return "no model yet: `graftline promote` puts an accepted candidate in use"
    last = entries[-1]
    since = f" since {last['when']}" if "when" in last else ""
    metrics = last.get("metrics") or {}
    accuracies = [f"{target} {one['accuracy']:.1%}" for target, one in metrics.items() if "accuracy" in one]
    errors = [
        f"{target} {error_in_words(one['error'], one['unit'])}" for target, one in metrics.items() if "unit" in one
    ]
    measures = {"accuracy": accuracies, "error": errors}
    held_out = "".join(f", held-out {name}: {', '.join(values)}" for name, values in measures.items() if values)
    return f"v{last['version']} ({last['model_sha256'][:12]}){since}{held_out}"


def waiting() -> Iterator[str]:
    """Yield a line for each kind of waiting item: samples, copies, batches of the landing, a candidate."""
    from flows.in_use.verdict import may_promote, read_object, read_verdict
    from flows.landing.arrivals import unfinished
    from flows.workspace import paths

    if paths.validation().is_file():
        counts = read_object(paths.validation(), advice="run `dvc repro` again")["batches"].values()
        kinds = dict.fromkeys(kind for batch in counts for kind in batch if kind not in ("in", "used"))
        totals = {kind: sum(batch.get(kind, 0) for batch in counts) for kind in kinds}
        if numbers := [f"{total:,} {kind.replace('.', ': ')}" for kind, total in totals.items() if total]:
            yield f"samples: {', '.join(numbers)}"
    if copies := sum(1 for _ in unfinished()):
        yield f"copies: {copies} that a killed run left; the next `graftline train` or `ingest` completes them"
    if address := os.environ.get("GRAFTLINE_LANDING"):
        yield f"landing: {landed(address)}"
    if paths.verdict().is_file() and paths.candidate().is_dir():
        from flows.in_use.place import digests, recorded

        verdict = read_verdict()
        is_waiting = may_promote(verdict) or verdict["verdict"] == "undecided"
        if is_waiting and digests(paths.candidate()) != recorded():
            force = "" if may_promote(verdict) else " --force --why '…'"
            yield f"candidate: {verdict['verdict']} and not in use: `graftline promote{force}`"


def landed(address: str) -> str:
    """Return how many batches of the landing were not taken yet."""
    from flows.landing.listing import Landing
    from flows.landing.options import MARKER
    from flows.landing.places import open_store
    from flows.workspace.parameters import modality

    try:
        landing = Landing(open_store(address), marker=MARKER, modality=modality())
        listing = landing.look()
    except (OSError, ValueError) as error:
        return str(error)
    new = sum(landing.mark_of(batch, marks=listing.marks) is None for batch in listing.batches)
    return f"{new} of {len(listing.batches)} batches were not taken yet: `graftline ingest {address}`"


def last_run() -> str:
    """Return the verdict of the last run, with the rules that its candidate breaks."""
    from flows.in_use.verdict import read_verdict
    from flows.workspace import paths

    if not paths.verdict().is_file():
        return "none has judged a candidate"
    verdict = read_verdict()
    broken = [rule["text"] for rule in verdict["rules"] if not rule["passed"]] + verdict.get("doubts", [])
    reasons = f": {'; '.join(broken)}" if broken else ""
    return f"candidate {verdict['candidate'][:12]} is {verdict['verdict']}{reasons}"


def adapted() -> Iterator[str]:
    """Yield a line for each domain that the last run's candidate was to be adapted to."""
    from flows.in_use.domains import domains, line_of
    from flows.in_use.verdict import ADVICE, read_object
    from flows.workspace import paths

    if paths.metrics().is_file():
        yield from map(line_of, domains(read_object(paths.metrics(), advice=ADVICE)))


if __name__ == "__main__":
    main()
