"""The table that people fill in with labels: written with blank cells, and read back."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from tasks.data.manifest.tables import read_text_table
from tasks.machine.names import printable
from tasks.targets.target import Target

LABELS = "labels.csv"
FILE, TEXT, ANSWER, WHY, SAMPLE_ID = "file", "text", "answer", "why", "sample_id"


def blank_table(
    rows: pd.DataFrame,
    content: Mapping[str, Sequence[str]],
    answers: Sequence[Mapping[str, str]],
    targets: Sequence[str],
) -> pd.DataFrame:
    """Return a row for each sample: its names, a blank cell for each target, and the model's answers.

    Args:
        rows: batch, path, sample_id and the reason of the choice.
        content: a column that shows the sample: its file or its text.
    """
    blank = pd.DataFrame({**content, **dict.fromkeys(targets, "")})
    suggestions = pd.DataFrame(
        {
            answer_of(name, targets): [answer[name] for answer in answers]
            for name in targets
            if answers and name in answers[0]
        },
        index=blank.index,
    )
    return blank.join(suggestions).join(rows[[WHY, "batch", "path", SAMPLE_ID]])


def answer_of(target: str, targets: Sequence[str]) -> str:
    """Return the name of the column of the model's answers for a target."""
    return ANSWER if len(targets) == 1 else f"{ANSWER}: {target}"


def labels_in(path: Path, targets: Mapping[str, Target]) -> Iterator[tuple[str, str, str, str]]:
    """Yield sample_id, target, label and "", of each cell of the table that is filled in.

    Raises:
        ValueError: the table has no column sample_id, or none of a target.
    """
    table = read_filled(path)
    known = [name for name in targets if name in table]
    if not known:
        raise ValueError(
            f"{path} has the columns {printable(', '.join(table.columns))}, expected one or more of "
            f"{', '.join(targets)}, too"
        )
    for row in table.to_dict("records"):
        for name in known:
            if label := str(row[name]).strip():
                yield str(row[SAMPLE_ID]), name, label, ""


def read_filled(path: Path) -> pd.DataFrame:
    """Return the table as people, or a spreadsheet, saved it. Raises ValueError where it has no column sample_id."""
    try:
        table = read_text_table(path)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} cannot be read ({' '.join(str(error).split())}): save it as CSV in UTF-8") from None
    table.columns = table.columns.str.removeprefix("\ufeff").str.strip('"')
    if len(table.columns) == 1 and ";" in table.columns[0]:
        raise ValueError(f"the columns of {path} are separated by semicolons, expected commas: save it so")
    if SAMPLE_ID not in table:
        raise ValueError(f"{path} has the columns {printable(', '.join(table.columns))}, expected {SAMPLE_ID} too")
    return table
