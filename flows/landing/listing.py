"""List the batches that lie in a landing: whether each is whole, and whether it was taken before."""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from flows.landing.places import LandedFile, Store
from tasks.data.raw.usual_names import COMPANION_FOLDERS, MOST_FOLDERS, TEXT_TABLE_ENDINGS, has_ending, split_called

MARKS = ".graftline"
IGNORED_BY_DVC = {".dvcignore", ".dvc", ".git", ".hg", "__pycache__"}
TABLES = (*TEXT_TABLE_ENDINGS, ".xlsx", ".json")  # endings of files that may give labels
# endings of the files that are a batch each, by modality: a table of any kind may hold texts
SINGLE_FILES = {"images": (".parquet",), "text": TEXT_TABLE_ENDINGS}
LONGEST_MARK = 200  # bytes; a longer name of a batch leaves no room for an ending


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A note in the landing about a batch that was taken: its listing there, its name and content in the project."""

    batch: str  # its name in the project
    md5: str  # its content, as DVC hashes it
    files: int
    bytes: int
    fingerprint: str  # of the listing


@dataclass(frozen=True, kw_only=True)
class LandedBatch:
    """A batch in a landing: a folder, or a single file."""

    name: str
    files: tuple[LandedFile, ...]  # sorted by path, without the marker
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
        """Return why the batch is not whole yet.

        Empty for a batch that is whole: it has its marker, or nothing in it changed for `quiet_seconds`.
        """
        if not self.files:
            return "it is empty"
        quiet = time.time() - self.changed
        if self.has_marker or quiet >= quiet_seconds:
            return ""
        return f"it changed {quiet:.0f} s ago" if quiet > -1 else "its age is unknown"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The content of a landing: batches, files that belong to none, and the paths of the marks."""

    batches: tuple[LandedBatch, ...]
    strays: tuple[str, ...]
    marks: frozenset[str]


class Landing:
    """The batches of a store.

    `marker` is the name of the file that makes a batch whole. `modality` decides which files are batches.
    """

    def __init__(self, store: Store, *, marker: str, modality: str = "images") -> None:
        if marker in ("", ".", "..") or set(marker) & set("/*?"):
            raise ValueError(f"the marker is {marker!r}, expected the name of a file, such as _COMPLETE")
        self.store = store
        self.marker = marker
        self.single_files: tuple[str, ...] = SINGLE_FILES[modality]

    def look(self) -> Listing:
        """Return the listing of the landing as it is now."""
        children: dict[str, list[LandedFile]] = {}
        for file in self.store.find():
            children.setdefault(file.path.split("/")[0], []).append(file)
        marks = {mark.path for mark in children.pop(MARKS, ())}
        children = {name: files for name, files in children.items() if name in (".", "..") or not name.startswith(".")}
        behind = f".{self.marker}"
        markers = {
            name
            for name in children
            if name.endswith(behind) and has_ending(name.removesuffix(behind), self.single_files)
        }
        strays = {name for name in children.keys() - markers if self._is_stray(name, children[name])}
        batches = [
            self._batch(name, [*children[name], *children.get(f"{name}.{self.marker}", [])])
            for name in sorted(children.keys() - markers - strays)
        ]
        batches = _without_bare_folders(
            batches, taken={batch.name for batch in batches if _mark_path(batch.name) in marks}
        )
        return Listing(batches=tuple(batches), strays=tuple(sorted(strays)), marks=frozenset(marks))

    def named(self, name: str) -> LandedBatch:
        """Return the batch with that name, without regard to its neighbours."""
        return self._batch(name, self.store.find(name))

    def again(self, batch: LandedBatch) -> LandedBatch:
        """Return the batch as it is now."""
        beside = f"{batch.name}.{self.marker}"
        is_file = [file.path for file in batch.files] == [batch.name]
        files = [*self.store.find(batch.name), *(self.store.find(beside) if is_file and batch.has_marker else ())]
        return self._batch(batch.name, files)

    def mark_of(self, batch: LandedBatch, *, marks: frozenset[str]) -> Mark | None:
        """Return the batch's mark; None if there is none, or it is not one of ours."""
        path = _mark_path(batch.name)
        if path not in marks:
            return None
        try:
            mark = Mark(**json.loads(self.store.read(path)))
        except (OSError, ValueError, TypeError, RecursionError):  # torn, or another program's
            return None
        is_ours = all(type(value) is (int if name in ("files", "bytes") else str) for name, value in vars(mark).items())
        return mark if is_ours else None

    def mark(self, name: str, mark: Mark) -> None:
        """Write the mark of the batch with that name."""
        content = json.dumps(asdict(mark), indent=2, sort_keys=True) + "\n"
        self.store.write(_mark_path(name), content.encode())

    def _is_stray(self, name: str, files: list[LandedFile]) -> bool:
        """Return whether a path beside the batches is no batch: a file, or a folder that a program made."""
        if name.lower() in COMPANION_FOLDERS:
            return True
        [first, *more] = files
        is_file = not (more or first.is_folder or first.problem or first.path != name)
        return is_file and not has_ending(name, self.single_files)

    def _batch(self, name: str, found: Iterable[LandedFile]) -> LandedBatch:
        everything = sorted(found, key=lambda file: file.path)
        markers = {f"{name}/{self.marker}", f"{name}.{self.marker}"}
        files = tuple(file for file in everything if not file.is_folder and file.path not in markers)
        return LandedBatch(
            name=name,
            files=files,
            changed=max((file.changed for file in everything), default=0.0),
            has_marker=any(file.path in markers and not file.is_folder for file in everything),
            problem=_problem(files),
        )


def _without_bare_folders(batches: list[LandedBatch], *, taken: set[str]) -> list[LandedBatch]:
    """Return the batches; those that seem to be parts of one batch have a problem.

    These are folders with the names of splits, and folders of files alone beside others of that kind, which look like
    class folders. A marker shows that a person means the folder as a batch.
    """
    new = [batch for batch in batches if batch.name not in taken and not batch.has_marker and not batch.problem]
    splits = {batch.name for batch in new if split_called(batch.name)}
    flat = {batch.name for batch in new if _is_flat(batch)} - splits
    flat = flat if len(flat) > 1 else set()

    def problem(batch: LandedBatch) -> str:
        if batch.name in splits:
            return "is called after a split: put the folders of all splits into one folder, which is the batch"
        if batch.name in flat:
            return (
                "looks like a class folder, as it holds files alone, without a table: put the folders of all classes "
                "into one folder, which is the batch; a batch without labels needs a marker in it"
            )
        return batch.problem

    return [replace(batch, problem=problem(batch)) for batch in batches]


def _is_flat(batch: LandedBatch) -> bool:
    """Return whether a folder holds files alone, none of which may give labels."""
    inside = [file.path.removeprefix(f"{batch.name}/") for file in batch.files]
    return bool(inside) and not any("/" in path or path == batch.name or has_ending(path, TABLES) for path in inside)


def _problem(files: tuple[LandedFile, ...]) -> str:
    """Return the problem of the first file that cannot be taken, and how many more there are."""
    folders = {
        "/".join(parts[:count]) for parts in (file.path.split("/") for file in files) for count in range(1, len(parts))
    }
    wrong = [(file.path, reason) for file in files if (reason := _reason(file, folders))]
    if not wrong:
        return ""
    path, reason = wrong[0]
    more = f" (and {len(wrong) - 1:,} more like it)" if len(wrong) > 1 else ""
    return f"{path!r} {reason}{more}: mend it at the source"


def _reason(file: LandedFile, folders: set[str]) -> str:
    if file.problem:
        return file.problem
    if file.path.count("/") > MOST_FOLDERS:
        return f"has more than {MOST_FOLDERS} folders around it"
    if file.path in folders:
        return "is a file and a folder at once"
    if ignored := IGNORED_BY_DVC.intersection(file.path.split("/")):
        return f"is ignored by DVC, as every {ignored.pop()} is"
    try:
        file.path.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return ""


def _mark_path(name: str) -> str:
    if len(name.encode(errors="surrogateescape")) > LONGEST_MARK:
        name = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
    return f"{MARKS}/{name}.json"
