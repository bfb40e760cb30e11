"""Windows of answers: a fixed number of answers, or those of an hour or a day by their own time stamps.

No order of the time stamps is assumed: an answer goes to the window of its own time, whatever clock jumped before it.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tasks.watching.answered import TIME

UNITS = {"m": 60, "h": 3600, "d": 86_400}  # s
PERIOD = re.compile(r"([1-9]\d{0,5})([mhd])")


@dataclass(frozen=True, kw_only=True)
class Window:
    """The answers to n samples of each target, and counts of the other inputs.

    Args:
        answers: rows of `read_files`, each sample once for each target.
        is_open: whether more answers may come into it, so that it will be judged again.
        num_repeated: answers to samples that the window has already.
        reasons: how many inputs have no answer, by the reason.
    """

    begin: pd.Timestamp | None
    end: pd.Timestamp | None
    answers: pd.DataFrame
    is_open: bool = False
    num_repeated: int
    reasons: dict[str, int]

    @property
    def num_samples(self) -> int:
        return int(self.answers["sample_id"].nunique())

    @property
    def key(self) -> str:
        """Return a name that the same samples, at the same time, have again."""
        ids = sorted(self.answers["sample_id"].unique())
        return hashlib.sha256("\n".join([str(self.begin), *ids]).encode()).hexdigest()[:16]

    @property
    def files(self) -> list[int]:
        """Return the numbers of the files that its answers lie in."""
        return sorted(self.answers["file"].unique().tolist())

    def of(self, target: str) -> pd.DataFrame:
        return self.answers[self.answers["target"] == target]


def seconds_of(period: str) -> int:
    """Return the seconds of a period such as 30m, 1h or 7d. Raises ValueError for any other text."""
    match = PERIOD.fullmatch(period)
    if not match:
        raise ValueError(f"{period[:20]!r} is no period, expected one such as 30m, 1h or 7d")
    return int(match[1]) * UNITS[match[2]]


def by_count(answers: pd.DataFrame, size: int, *, before: Mapping[str, int] | None = None) -> Iterator[Window]:
    """Yield windows of `size` answers each, in the order of the rows; the last may have fewer.

    Args:
        before: by target, how many earlier answers are gone: the first window has so many fewer.
    """
    gone = answers["target"].map(before or {}).fillna(0).astype(int) % size
    is_answered = answers["reason"].isna().astype(int)
    place = gone + is_answered.groupby(answers["target"], sort=False).cumsum()  # of the answer, from 1 on
    last = max(int(place.max() - 1) // size, 0) if len(answers) else 0
    for number, rows in answers.groupby(((place - is_answered) // size).clip(upper=last), sort=True):
        window = window_of(rows, begin=earliest(rows), end=latest(rows))
        yield replace(window, is_open=bool(number == last and place[rows.index].max() < (last + 1) * size))


def answers_before(answers: pd.DataFrame, num_files: int, *, before: Mapping[str, int]) -> list[dict[str, int]]:
    """Return for each file how many answers to each target came before it; `before` is of the first one."""
    counts = answers[answers["reason"].isna()].groupby(["file", "target"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=range(num_files), fill_value=0)
    sums = counts.cumsum() - counts
    return [
        {str(name): int(num) + before.get(str(name), 0) for name, num in row.items()} for row in sums.to_dict("records")
    ]


def by_time(answers: pd.DataFrame, seconds: int) -> tuple[list[Window], int]:
    """Return the windows of so many seconds that have any answer, in the order of time, and the rows without a time.

    The newest is open, because more answers of its time may come.
    """
    timed = answers[answers[TIME].notna()]
    length = pd.Timedelta(seconds=seconds)
    number = (timed[TIME] - pd.Timestamp(0, tz="UTC")) // length
    windows = [
        window_of(rows, begin=pd.Timestamp(0, tz="UTC") + int(n) * length,
                  end=pd.Timestamp(0, tz="UTC") + (int(n) + 1) * length)
        for n, rows in timed.groupby(number, sort=True)
    ]  # fmt: skip
    newest = [replace(window, is_open=True) for window in windows[-1:]]
    return [*windows[:-1], *newest], len(answers) - len(timed)


def window_of(rows: pd.DataFrame, *, begin: pd.Timestamp | None, end: pd.Timestamp | None) -> Window:
    is_answered = rows["reason"].isna() & rows["sample_id"].notna()
    answers = rows[is_answered]
    is_repeated = answers.duplicated(["sample_id", "target"])
    first = rows["target"].iloc[0]  # a row of each input
    num_repeated = int((is_repeated & (answers["target"] == first)).sum())
    reasons = rows.loc[~is_answered & (rows["target"] == first), "reason"].fillna("unnamed").value_counts()
    return Window(
        begin=begin, end=end, answers=answers[~is_repeated], num_repeated=num_repeated,
        reasons={str(name): int(count) for name, count in sorted(reasons.items())},
    )  # fmt: skip


def earliest(rows: pd.DataFrame) -> pd.Timestamp | None:
    return _known(rows[TIME].min())


def latest(rows: pd.DataFrame) -> pd.Timestamp | None:
    return _known(rows[TIME].max())


def _known(time: Any) -> pd.Timestamp | None:
    return None if pd.isna(time) or not np.isfinite(time.value) else time
