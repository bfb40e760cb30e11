"""Find the file that a row of a table means where its path differs a little from the file's."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from tasks.data.raw.usual_names import companion, has_ending

DRIVE = re.compile(r"[A-Za-z]:/")
MOST_NAMED = 3


class Files:
    """The files of a batch, by their paths and by the variants that a path in a table may have.

    Args:
        files: paths as `walk` returns them.
        endings: of a sample's name; where two files differ in the ending alone, the one that has such an ending counts.
    """

    def __init__(self, batch: Path, files: Iterable[str], *, endings: tuple[str, ...] = ()) -> None:
        self.paths = list(files)
        self.batch = batch.absolute()
        self.endings = endings

    def find(self, path: str, *, folder: str = "") -> str | None:
        """Return the file at exactly this path, apart from spaces around it and the form of its accents.

        `folder` is that of the table, with a slash behind it: paths may begin there.
        """
        names = [f"{place}{name}" for place in dict.fromkeys((folder, "")) for name in (path, _normal(path))]
        return next((self._by_text[name] for name in names if name in self._by_text), None)

    def nearest(self, path: str, *, folder: str = "") -> tuple[str | None, str]:
        """Return the only file that fits a path which no file has, or None and a remark for a person.

        A path may lack folders before it or the ending behind it, be absolute, begin with the folder of the batch, and
        have other slashes and another case of letters. Of several files that fit none is returned.
        """
        keys = [_key(f"{place}{name}") for name in self._inside(path) for place in dict.fromkeys((folder, ""))]
        for fitting in (
            [file for key in keys for file in self._by_key.get(key, [])],
            [file for key in keys for file in self._samples(self._by_stem.get(key, []))],
            [file for key in keys for file in self._behind(key)],
        ):
            fitting = list(dict.fromkeys(fitting))
            if len(fitting) == 1:
                return fitting[0], ""
            if fitting:
                more = len(fitting) - MOST_NAMED
                named = ", ".join(fitting[:MOST_NAMED]) + f" and {more} more" * (more > 0)
                return None, f"no such file, and {len(fitting)} fit it: {named}"
        others = [file for key in keys for file in self._by_stem.get(_stem(key), [])]
        return None, f"no such file: is it {others[0]}?" if others else "no such file"

    def _inside(self, path: str) -> list[str]:
        """Return the paths in the batch that a path may stand for."""
        plain = _normal(path).replace("\\", "/")
        parts = PurePosixPath(plain).parts
        if not parts or ".." in parts or "\0" in plain:
            return []
        is_absolute = plain.startswith("/") or bool(DRIVE.match(plain))
        anchors = [
            number
            for number, part in enumerate(parts)
            if part == self.batch.name and (is_absolute or not number or parts[number - 1] == self.batch.parent.name)
        ]
        behind = ["/".join(parts[number + 1 :]) for number in reversed(anchors)]
        return [name for name in ([] if is_absolute else ["/".join(parts)]) + behind if name]

    def _samples(self, files: list[str]) -> list[str]:
        return [file for file in files if has_ending(file, self.endings)] or files

    def _behind(self, key: str) -> list[str]:
        """Return the files whose path ends in `key`, with or without its ending."""
        name = key.rpartition("/")[2]
        whole = [file for file in self._by_name.get(name, []) if f"/{_key(file)}".endswith(f"/{key}")]
        named = self._by_name_stem.get(name, [])
        return whole or self._samples([file for file in named if f"/{_stem(_key(file))}".endswith(f"/{key}")])

    @cached_property
    def _by_text(self) -> dict[str, str]:
        # an archive from another system may have accents in another form
        by_text = {_normal(path): path for path in reversed(self.paths)}
        return by_text | {path: path for path in self.paths}

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        return _index(self.paths, _key)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _index(self.paths, lambda path: _stem(_key(path)))

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _index(self.paths, lambda path: _key(path).rpartition("/")[2])

    @cached_property
    def _by_name_stem(self) -> dict[str, list[str]]:
        return _index(self.paths, lambda path: _stem(_key(path)).rpartition("/")[2])


def _index(paths: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for path in paths:
        if "/." not in f"/{path}" and not companion(path):
            index.setdefault(key(path), []).append(path)
    return index


def _normal(path: str) -> str:
    return unicodedata.normalize("NFC", path.strip())


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _stem(path: str) -> str:
    """Return the path without its ending."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{PurePosixPath(name).stem}"
