"""Files in; a git commit of these files alone, with a tag on it where one is given, out. What else is staged or changed is left
alone."""

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.repro import held

IDENTITY = ("-c", "user.name=graftline", "-c", "user.email=graftline@localhost")


def record_in_git(paths: Sequence[Path], *, message: str, log: Callable[[str], None], tag: str | None = None) -> None:
    """May be done again. Outside of a git checkout nothing is done. Raises ValueError where git refuses."""
    if _git("rev-parse", "--is-inside-work-tree").returncode != 0:
        log("this is no git checkout: nothing is committed")
        return
    names = [str(path) for path in paths]
    identity = () if _git("var", "GIT_COMMITTER_IDENT").returncode == 0 else IDENTITY
    _must("add", "--", *names)
    if _must("status", "--porcelain", "--", *names):
        _must(*identity, "commit", "--quiet", "--no-verify", "--only", "-m", message, "--", *names)
    if tag and not _must("tag", "--list", tag):
        _must(*identity, "tag", "--annotate", "-m", message, tag)


def push_to_git(branch: str | None, *, remote: str = "origin") -> str:
    """Push what is checked out, with its tags, to a branch of that name, else to that of its own name; which, is returned. Raises
    ValueError where git refuses."""
    branch = branch or _must("rev-parse", "--abbrev-ref", "HEAD").strip()
    if branch == "HEAD":
        raise ValueError("no branch is checked out, expected one to push to: `git switch` to it, then run again")
    _must("push", "--quiet", "--follow-tags", remote, f"HEAD:refs/heads/{branch}")
    return branch


def unstage(path: Path) -> None:
    """Take what is below it out of git's index, if it is there."""
    _git("reset", "--quiet", "--", str(path))


def versions_tagged(artifact: str) -> list[int]:
    """The versions of an artifact that have a tag, whatever commit it is on."""
    tags = _git("tag", "--list", f"{artifact}@v*").stdout.split()
    return [int(found[1]) for tag in tags if (found := re.fullmatch(r".*@v(\d+)\.0\.0", tag))]


def _must(*arguments: str) -> str:
    done = _git(*arguments)
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[:300]
        raise ValueError(f"git refuses to {arguments[0]} ({reason})")
    return done.stdout


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments],  # noqa: S607  whichever git the user has
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        pass_fds=held(),  # this workspace is not free before git is done
    )
