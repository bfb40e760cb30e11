"""A landing: a store in, the batches that lie in it out, each whole or not yet, taken before or not."""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from flows.landing.places import Found, Store

MARKS = ".graftline"
LEFT_OUT_BY_DVC = {".dvcignore", ".dvc", ".git", ".hg", "__pycache__"}
LONGEST_MARK = 200  # bytes; longer names of batches leave no room for an ending


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What the landing keeps of a batch that was taken: how it lay there and what became of it."""

    batch: str  # its name in data/raw
    md5: str  # its content, as DVC hashes it
    files: int
    bytes: int
    fingerprint: str  # of the listing


@dataclass(frozen=True, kw_only=True)
class LandedBatch:
    """A child of the landing: a folder, or a Parquet file."""

    name: str
    files: tuple[Found, ...]  # sorted by path; the marker is not among them
    changed: float  # seconds since the epoch
    has_marker: bool
    problem: str  # why it cannot be taken, and what to do; or empty

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def fingerprint(self) -> str:
        listing = [[file.path, file.size, file.version] for file in self.files]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()

    def why_not_whole(self, quiet_seconds: float) -> str:
        """Empty for a batch that is whole: its marker is there, or nothing in it changed for a while."""
        if not self.files:
            return "it is empty"
        quiet = time.time() - self.changed
        if self.has_marker or quiet >= quiet_seconds:
            return ""
        return f"it changed {quiet:.0f} s ago" if quiet > -1 else "its age is unknown"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What lies in a landing: batches, files that belong to none, and the paths of the marks."""

    batches: tuple[LandedBatch, ...]
    strays: tuple[str, ...]
    marks: frozenset[str]


class Landing:
    """The batches of a store. `marker` is the name of the file that says that a batch is whole."""

    def __init__(self, store: Store, *, marker: str) -> None:
        if marker in ("", ".", "..") or set(marker) & set("/*?"):
            raise ValueError(f"the marker is {marker!r}, expected the name of a file, such as _COMPLETE")
        self.store = store
        self.marker = marker

    def look(self) -> Listing:
        """What lies there now."""
        children: dict[str, list[Found]] = {}
        for found in self.store.find():
            children.setdefault(found.path.split("/")[0], []).append(found)
        marks = {found.path for found in children.pop(MARKS, ())}
        children = {name: found for name, found in children.items() if name in (".", "..") or not name.startswith(".")}
        markers = {name for name in children if name.endswith(f".parquet.{self.marker}")}
        strays = {name for name in children.keys() - markers if _is_stray(name, children[name])}
        batches = [
            self._batch(name, [*children[name], *children.get(f"{name}.{self.marker}", [])])
            for name in sorted(children.keys() - markers - strays)
        ]
        return Listing(batches=tuple(batches), strays=tuple(sorted(strays)), marks=frozenset(marks))

    def again(self, batch: LandedBatch) -> LandedBatch:
        """The batch as it lies there now."""
        beside = f"{batch.name}.{self.marker}"
        is_file = [file.path for file in batch.files] == [batch.name]
        found = [*self.store.find(batch.name), *(self.store.find(beside) if is_file and batch.has_marker else ())]
        return self._batch(batch.name, found)

    def mark_of(self, batch: LandedBatch, *, marks: frozenset[str]) -> Mark | None:
        """The batch's mark, if there is one that says what a mark says."""
        path = _mark_path(batch.name)
        if path not in marks:
            return None
        try:
            mark = Mark(**json.loads(self.store.read(path)))
        except (OSError, ValueError, TypeError):  # torn, or a stranger's: the batch is recognised by its content
            return None
        is_ours = all(type(value) is (int if name in ("files", "bytes") else str) for name, value in vars(mark).items())
        return mark if is_ours else None

    def mark(self, name: str, mark: Mark) -> None:
        content = json.dumps(asdict(mark), indent=2, sort_keys=True) + "\n"
        self.store.write(_mark_path(name), content.encode())

    def _batch(self, name: str, found: Iterable[Found]) -> LandedBatch:
        everything = sorted(found, key=lambda each: each.path)
        markers = {f"{name}/{self.marker}", f"{name}.{self.marker}"}
        files = tuple(each for each in everything if not each.is_folder and each.path not in markers)
        return LandedBatch(
            name=name,
            files=files,
            changed=max((each.changed for each in everything), default=0.0),
            has_marker=any(each.path in markers and not each.is_folder for each in everything),
            problem=_problem(files),
        )


def _is_stray(name: str, found: list[Found]) -> bool:
    """A file beside the batches, of a kind that is none."""
    [first, *more] = found
    return not (more or first.is_folder or first.problem or first.path != name or name.endswith(".parquet"))


def _problem(files: tuple[Found, ...]) -> str:
    """What is wrong with the first of the files that cannot be taken, and how many more there are."""
    folders = {
        "/".join(parts[:count]) for parts in (file.path.split("/") for file in files) for count in range(1, len(parts))
    }
    wrong = [(file.path, reason) for file in files if (reason := _reason(file, folders))]
    if not wrong:
        return ""
    path, reason = wrong[0]
    more = f" (and {len(wrong) - 1:,} more like it)" if len(wrong) > 1 else ""
    return f"{path!r} {reason}{more}: mend it at the source"


def _reason(file: Found, folders: set[str]) -> str:
    if file.problem:
        return file.problem
    if file.path in folders:
        return "is a file and a folder at once"
    if ignored := LEFT_OUT_BY_DVC.intersection(file.path.split("/")):
        return f"is left out by DVC, as every {ignored.pop()} is"
    try:
        file.path.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return ""


def _mark_path(name: str) -> str:
    if len(name.encode(errors="surrogateescape")) > LONGEST_MARK:
        name = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
    return f"{MARKS}/{name}.json"
