"""The corrections that people made: `corrections.csv`, a row a decision about a sample. Rows are only appended.

Git keeps the file, and raw data stays as it came. Rows count in the order of `when`, whatever order a merge of two
branches left them in. A later decision of a person about a sample replaces that person's earlier one. Different
decisions of two people stay in force until one of them is undone, because perhaps nobody has seen both.
"""

import csv
import fcntl
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from tasks.machine.files import write_whole
from tasks.machine.names import in_a_cell, of_a_cell, printable

RELABEL, ACCEPT, SET_ASIDE, UNDO = ACTIONS = ("relabel", "accept", "set_aside", "undo")
SAMPLE_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A row of the corrections.

    `relabel` gives a sample another label for a target, or its first. `accept` records that a person found the sample,
    or its label, right: nothing changes. `set_aside` keeps it out of training and judging. `undo` takes back the rows
    of the sample with the same target and label. `line` is the row's place in the file, counted from 1.
    """

    sample_id: str
    target: str = ""
    label: str = ""
    action: str
    who: str
    when: str = ""
    note: str = ""
    line: int = field(default=0, compare=False)

    @property
    def instant(self) -> datetime:
        return instant_of(self.when)

    @property
    def decision(self) -> str:
        """Return the person's decision in words, such as `Ann: 'cat'`."""
        what = repr(self.label) if self.label else {SET_ASIDE: "set aside", ACCEPT: "right as it is"}[self.action]
        return f"{printable(self.who)}: {what}"


COLUMNS = [column.name for column in fields(Correction) if column.name != "line"]


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The corrections in force for a sample: rows that relabel it, a row that sets it aside, or two that contradict."""

    labels: list[Correction]
    set_aside: Correction | None
    conflict: tuple[Correction, Correction] | None


def read_corrections(path: Path) -> list[Correction]:
    """Return the rows of the file, in its order; none where it is absent or empty.

    Raises:
        ValueError: a row cannot be read; the message has its line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return parse(content, path=path)


def parse(content: bytes, *, path: Path) -> list[Correction]:
    """Return the rows in the content of the file at `path`. Raises ValueError as `read_corrections` does."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}, byte {error.start}): save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Correction] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cells):
                continue
            if header is None:
                header = cells
                if header != COLUMNS:
                    raise ValueError(
                        f"{path} has the columns {printable(','.join(header))}, expected {','.join(COLUMNS)}: restore "
                        "its first line"
                    )
            elif cells != COLUMNS:  # a merge may leave the first line twice
                rows.append(_row(cells, place=f"{path}, line {reader.line_num}", line=reader.line_num))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}: mend its quotes") from None
    return rows


def _row(cells: Sequence[str], *, place: str, line: int) -> Correction:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{place} has {len(cells)} cells, expected {len(COLUMNS)}: {','.join(COLUMNS)}")
    row = Correction(**{name: of_a_cell(cell) for name, cell in zip(COLUMNS, cells, strict=True)}, line=line)
    if row.action not in ACTIONS:
        raise ValueError(f"{place}: action is {printable(row.action)!r}, expected one of {', '.join(ACTIONS)}")
    if not SAMPLE_ID.fullmatch(row.sample_id):
        raise ValueError(f"{place}: sample_id is {printable(row.sample_id)!r}, expected 64 digits from 0 to f")
    if not row.who:
        raise ValueError(f"{place}: who is blank, expected the name of the person who decided")
    if row.action == RELABEL and not (row.target and row.label.strip()):
        raise ValueError(f"{place}: a relabel without a target or a label, expected both; set_aside takes a sample out")
    if row.action == SET_ASIDE and (row.target or row.label):
        raise ValueError(f"{place}: set_aside is about the whole sample, expected no target and no label")
    if bool(row.target) != bool(row.label):
        raise ValueError(f"{place}: a target without its label, or the reverse, expected both or none")
    try:
        instant_of(row.when)
    except ValueError:
        raise ValueError(
            f"{place}: when is {printable(row.when)!r}, expected a day or a time such as 2026-01-31T12:00:00Z"
        ) from None
    return row


def instant_of(when: str) -> datetime:
    """Return the instant of an ISO 8601 text; UTC where it names no zone. Raises ValueError for another text."""
    instant = datetime.fromisoformat(when)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def standing(rows: Iterable[Correction]) -> dict[str, list[Correction]]:
    """Return the rows in force, by sample: those that nobody undid, and that their author did not replace."""
    held: dict[str, list[Correction]] = {}
    for row in sorted(rows, key=lambda row: row.instant):
        before = held.get(row.sample_id, [])
        if row.action == UNDO:
            held[row.sample_id] = [one for one in before if (one.target, one.label) != (row.target, row.label)]
        else:
            held[row.sample_id] = [one for one in before if not _replaces(row, one)] + [row]
    return {sample_id: standing_rows for sample_id, standing_rows in held.items() if standing_rows}


def _replaces(row: Correction, earlier: Correction) -> bool:
    """Return whether a row replaces an earlier one of the same person: of the same target, or of the whole sample."""
    return row.who == earlier.who and earlier.target in ("", row.target)


def decided(rows: Sequence[Correction]) -> Decided:
    """Return the decision that follows from the rows in force for a sample."""
    conflict = next(
        ((one, other) for number, other in enumerate(rows) for one in rows[:number] if _contradict(one, other)), None
    )
    labels = {row.target: row for row in rows if row.action == RELABEL}  # several people may agree
    aside = next((row for row in rows if row.action == SET_ASIDE), None)
    return Decided(labels=list(labels.values()), set_aside=aside, conflict=conflict)


def _contradict(one: Correction, other: Correction) -> bool:
    """Return whether two people decided differently about a sample."""
    if one.who == other.who:
        return False
    if SET_ASIDE in (one.action, other.action):
        return one.action != other.action
    return one.target == other.target and one.label != other.label


def append(path: Path, wanted: Sequence[Correction], *, replaces: bool) -> list[Correction]:
    """Append decisions to the file, and return the rows that were added. It may be called again.

    A decision that is in force is not added again. Of two decisions of one person, the last counts. The rows get the
    present time as `when`, or the latest time in the file, so that a slow clock changes no order.

    Args:
        replaces: whether the person has seen the rows in force. Then different decisions of others are undone.

    Raises:
        ValueError: a row of the file cannot be read; nothing is added.
    """

    def additions(rows: list[Correction]) -> Iterator[Correction]:
        held = standing(rows)
        last = {(row.who, row.sample_id, row.target): row for row in wanted}
        for row in last.values():
            before = held.get(row.sample_id, [])
            if row.action == UNDO:
                yield row
            elif not any(_says_the_same(one, row) for one in before):
                differing = [one for one in before if _contradict(one, row)] if replaces else []
                yield from undoing(differing, who=row.who)
                yield row

    return _added(path, additions)


def undo(path: Path, sample_id: str, *, who: str) -> list[Correction]:
    """Take back all decisions in force about a sample, and return the rows that were added."""
    return _added(path, lambda rows: undoing(standing(rows).get(sample_id, []), who=who))


def undoing(rows: Iterable[Correction], *, who: str) -> Iterator[Correction]:
    """Yield a row that takes back each of the rows."""
    for row in rows:
        yield replace(row, action=UNDO, who=who, note="")


def _says_the_same(one: Correction, other: Correction) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("who", "action", "target", "label"))


def _added(path: Path, additions: Callable[[list[Correction]], Iterable[Correction]]) -> list[Correction]:
    with _only_writer(path):
        content = path.read_bytes()
        rows = parse(content, path=path)
        last = max((row.instant for row in rows), default=datetime.min.replace(tzinfo=UTC))
        now = max(datetime.now(UTC).replace(microsecond=0), last).isoformat().replace("+00:00", "Z")
        added = [replace(row, when=now, line=0) for row in additions(rows)]
        if added:
            write_whole(path, _with_lines(content, added))
        return added


def _with_lines(content: bytes, rows: Iterable[Correction]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if not content.strip(b"\xef\xbb\xbf\r\n"):
        content = b""
        writer.writerow(COLUMNS)
    writer.writerows([in_a_cell(getattr(row, name)) for name in COLUMNS] for row in rows)
    return content + b"\n" * (not content.endswith(b"\n") and bool(content)) + text.getvalue().encode()


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Wait until no other process appends to the file, which is empty where there was none."""
    while True:
        with path.open("ab") as file:  # a network disk locks no folder, and no file that is only read
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file.fileno()):
                yield
                return


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether the open file is still the one at `path`: the previous holder of the lock may have replaced it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
