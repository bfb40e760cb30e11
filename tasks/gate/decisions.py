"""The candidates that were judged, in their order: a file of them in, which decision on one held-out set a candidate's is out."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tasks.machine.files import whole_file, write_json


class Decision(BaseModel):
    """`candidate` and `heldout` are the digests of what was judged, and on what."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    candidate: str
    heldout: str
    verdict: str


def read_decisions(path: Path) -> list[Decision]:
    """None where there is no file yet. Raises ValueError where it holds anything else."""
    if not path.exists():
        return []
    try:
        return TypeAdapter(list[Decision]).validate_json(path.read_bytes())
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ValueError(f"{path} is no list of decisions (at {place or 'its top'}): restore it with git") from None


def number_of(decisions: list[Decision], *, candidate: str, heldout: str) -> int:
    """Which decision on that held-out set the candidate's is, 1 for the first: judged again, it keeps its number."""
    judged = [each.candidate for each in decisions if each.heldout == heldout]
    return 1 + (judged.index(candidate) if candidate in judged else len(judged))


def write_down(path: Path, decision: Decision) -> None:
    """At the end, or in the place of what was decided of the same candidate on the same held-out set."""
    decisions = read_decisions(path)
    same = [(each.candidate, each.heldout) == (decision.candidate, decision.heldout) for each in decisions]
    if any(same):
        decisions[same.index(True)] = decision
    else:
        decisions.append(decision)
    with whole_file(path) as beside:
        write_json(beside, [each.model_dump() for each in decisions])
