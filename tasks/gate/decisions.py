"""The log of all decisions of the gate: read it, add to it, and count the decisions on a held-out set."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tasks.machine.files import whole_file, write_json


class Decision(BaseModel):
    """A verdict on a candidate. `candidate` and `heldout` are digests of the candidate and of the held-out set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    candidate: str
    heldout: str
    verdict: str


def read_decisions(path: Path) -> list[Decision]:
    """Return the decisions in their order; none if there is no file yet. Raises ValueError if the file is malformed."""
    if not path.exists():
        return []
    try:
        return TypeAdapter(list[Decision]).validate_json(path.read_bytes())
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ValueError(f"{path} is not a list of decisions (at {place or 'its top'}): restore it with git") from None


def number_of(decisions: list[Decision], *, candidate: str, heldout: str) -> int:
    """Return the number of the candidate's decision on that held-out set, from 1.

    A candidate that is judged again keeps its number.
    """
    judged = [decision.candidate for decision in decisions if decision.heldout == heldout]
    return 1 + (judged.index(candidate) if candidate in judged else len(judged))


def write_down(path: Path, decision: Decision) -> None:
    """Add the decision to the file, or replace the earlier one on the same candidate and held-out set."""
    decisions = read_decisions(path)
    same = [(earlier.candidate, earlier.heldout) == (decision.candidate, decision.heldout) for earlier in decisions]
    if any(same):
        decisions[same.index(True)] = decision
    else:
        decisions.append(decision)
    with whole_file(path) as beside:
        write_json(beside, [entry.model_dump() for entry in decisions])
