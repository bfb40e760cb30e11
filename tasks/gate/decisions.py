"""The log of all decisions of the gate: read it, add to it, and count the decisions on a held-out set.

It has a JSON object in each line, so that git merges the logs of two clones by keeping the lines of both.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tasks.machine.files import write_whole

SAMPLE = 64  # the number of sample_ids that a decision keeps
DIGITS = 12  # of each
CONFLICT_MARKS = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")


class Decision(BaseModel):
    """A verdict on a candidate. `candidate`, `baseline` and `heldout` are digests of both models and the held-out set.

    sample: the beginnings of the smallest sample_ids that are held out, at most SAMPLE, in order. As sample_ids are
    hashes, they are a random sample of the set, and show how much of another set is old (bottom-k, Broder 1997).
    waits: whether only a person may put the undecided candidate in use.
    Decisions of earlier versions lack baseline and sample.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    candidate: str
    heldout: str
    verdict: str
    baseline: str | None = None
    sample: list[str] = []
    waits: bool = False


def read_decisions(path: Path) -> list[Decision]:
    """Return the decisions in their order; none if there is no file yet.

    Earlier versions wrote a JSON list, in this file or in one that ends with `.json`: it is read, too. Of several
    decisions on the same candidate and held-out set the last counts.

    Raises ValueError if the file is malformed.
    """
    if not path.exists() and path.suffix == ".jsonl":
        path = path.with_suffix(".json")
    if not path.exists():
        return []
    content = path.read_bytes()
    if content.lstrip().startswith(b"["):
        decisions = decisions_in(content, of=list[Decision], file=path, place="its list")
    else:
        lines = content.removesuffix(b"\n").split(b"\n")
        decisions = [
            decisions_in(line, of=Decision, file=path, place=f"line {number}") for number, line in enumerate(lines, 1)
        ]
    return list({(decision.candidate, decision.heldout): decision for decision in decisions}.values())


def decisions_in(content: bytes, *, of: Any, file: Path, place: str) -> Any:
    """Return the decisions at a place of the file. Raises ValueError that names the place where it is malformed."""
    if content.startswith(CONFLICT_MARKS):
        raise ValueError(f"{file} has a mark of a merge conflict in {place}: remove the marks, keep the lines of both")
    try:
        return TypeAdapter(of).validate_json(content)
    except ValidationError:
        raise ValueError(f"{file} is not a list of decisions (in {place}): restore it with git") from None


def sample_of(sample_ids: Iterable[str]) -> list[str]:
    """Return the sample of a held-out set that a decision keeps."""
    return sorted({sample_id[:DIGITS] for sample_id in sample_ids})[:SAMPLE]


def share_old(now: Decision, *, before: Decision) -> float:
    """Return the share of one decision's held-out set that was in the set of an earlier one, 0..1."""
    if now.heldout == before.heldout:
        return 1.0
    ends = [decision.sample[-1] for decision in (now, before) if len(decision.sample) == SAMPLE]
    kept = [sample_id for sample_id in now.sample if not ends or sample_id <= min(ends)]
    return len(set(kept) & set(before.sample)) / len(kept) if kept else 0.0


def worn(decisions: list[Decision], now: Decision) -> float:
    """Return how many earlier decisions wore the held-out set; each counts by the share of the set that is old.

    A candidate that is judged again does not count, nor do those that were judged after it.
    """
    return sum(share_old(now, before=past) for past in _before(decisions, now))


def tries(decisions: list[Decision], now: Decision) -> float:
    """Return how many earlier candidates were compared with the same model in use, counted as `worn` counts them."""
    return sum(share_old(now, before=past) for past in _before(decisions, now) if past.baseline == now.baseline)


def undecided_in_a_row(decisions: list[Decision], model: str | None) -> int:
    """Return how many undecided candidates in a row were put in use without a person, `model` the last of them."""
    by_candidate = {known.candidate: known for known in decisions}
    seen: set[str | None] = set()
    while model in by_candidate and model not in seen:
        decision = by_candidate[model]
        if decision.verdict != "undecided" or decision.waits:
            break
        seen.add(model)
        model = decision.baseline
    return len(seen)


def write_down(path: Path, decision: Decision) -> None:
    """Add the decision to the file, or replace the earlier one on the same candidate and held-out set."""
    decisions = {(known.candidate, known.heldout): known for known in read_decisions(path)}
    decisions[decision.candidate, decision.heldout] = decision
    lines = [json.dumps(known.model_dump(exclude_defaults=True), sort_keys=True) for known in decisions.values()]
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def _before(decisions: list[Decision], now: Decision) -> list[Decision]:
    judged = [(decision.candidate, decision.heldout) for decision in decisions]
    key = (now.candidate, now.heldout)
    earlier = decisions[: judged.index(key)] if key in judged else decisions
    return [decision for decision in earlier if decision.candidate != now.candidate]
