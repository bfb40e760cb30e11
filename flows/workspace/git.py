"""Files in; a git commit of these files alone, with a tag on it where one is given, out; and what is checked out, at the remote. What
else is staged or changed is left alone."""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.workspace.guard import held
from flows.workspace.redaction import redactor

IDENTITY = ("-c", "user.name=graftline", "-c", "user.email=graftline@localhost")
# else its cleaning would go on after the run, and hold what it inherits
ATTACHED = ("-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false")
REMOTE = "origin"
BY_GATE = "accepted by the gate"  # why a run puts a candidate in use, where nobody is asked
OF_A_RUN = re.compile(rf"retrain: |promote [0-9a-f]+: {BY_GATE}$")  # the commits that no person made
PUSH_SECONDS = 3600


class RefusedError(ValueError):
    """The remote does not want it: trying again changes nothing."""


def is_git_checkout() -> bool:
    """Raises ValueError where there is one that git does not read, such as another user's."""
    done = _git("rev-parse", "--is-inside-work-tree")
    if done.returncode != 0 and "not a git repository" not in done.stderr:
        raise ValueError(f"git does not read this checkout ({_reason(done)})")
    return done.returncode == 0


def record_in_git(paths: Sequence[Path], *, message: str, log: Callable[[str], None], tag: str | None = None) -> None:
    """May be done again. Outside of a git checkout nothing is done. Raises ValueError where git refuses."""
    if not is_git_checkout():
        log("this is no git checkout: nothing is committed")
        return
    names = [str(path) for path in paths]
    identity = () if _git("var", "GIT_COMMITTER_IDENT").returncode == 0 else IDENTITY
    _must("add", "--", *names)
    if _must("status", "--porcelain", "--", *names):
        _must(*identity, "commit", "--quiet", "--no-verify", "--only", "-m", message, "--", *names)
    if tag and not _must("tag", "--list", tag):
        _must(*identity, "tag", "--annotate", "-m", message, tag)


def is_recorded(paths: Sequence[Path]) -> bool:
    """Whether the commit that is checked out has these files as they are."""
    return not (paths and differing(paths))


def differing(paths: Sequence[Path]) -> list[str]:
    """The files among these, or in these folders, that the commit which is checked out has otherwise, or lacks, or has and are gone."""
    listed = _must("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *map(str, paths))
    return [each[3:] for each in listed.split("\0") if each]


def check_pushable(*, is_branch_needed: bool) -> None:
    """Raises ValueError where there is no remote to push to, or no branch to push."""
    if not is_git_checkout():
        raise ValueError(
            "this is no git checkout, so nothing can be published: clone the project, or give publish_to no"
        )
    if _git("remote", "get-url", REMOTE).returncode != 0:
        raise ValueError(
            f"git has no remote {REMOTE} to publish to: `git remote add {REMOTE} URL`, or give publish_to no"
        )
    if is_branch_needed:
        _checked_out()


def push_to_git(branch: str | None) -> str:
    """Push what is checked out: with its tags to the branch that is checked out, or else to a branch of that name that is this
    project's own. What was done is returned, in words. May be done again.

    Raises:
        RefusedError: the remote has commits that are not here, or protects the branch.
        ValueError: git cannot reach the remote.
    """
    if branch is None:
        branch = _checked_out()
        _push("--follow-tags", REMOTE, f"HEAD:refs/heads/{branch}", branch=branch)
        return f"pushed git to {branch}"
    there = _must("ls-remote", REMOTE, f"refs/heads/{branch}", is_remote=True).partition("\t")[0]
    if there:
        _must("fetch", "--quiet", "--no-tags", REMOTE, f"refs/heads/{branch}", is_remote=True)
        if _git("diff", "--quiet", there, "HEAD").returncode == 0:
            return f"{branch} has this already"
        if not OF_A_RUN.match(_must("log", "-1", "--format=%s", there)):
            return f"{branch} is left as it is: the last commit there is a person's"
    # a lease: nothing is overwritten but what was looked at
    _push(f"--force-with-lease=refs/heads/{branch}:{there}", REMOTE, f"HEAD:refs/heads/{branch}", branch=branch)
    return f"pushed git to {branch}"


def unstage(path: Path) -> None:
    """Take what is below it out of git's index, if it is there."""
    _git("reset", "--quiet", "--", str(path))


def versions_tagged(artifact: str) -> list[int]:
    """The versions of an artifact that have a tag, whatever commit it is on."""
    tags = _git("tag", "--list", f"{artifact}@v*").stdout.split()
    return [int(found[1]) for tag in tags if (found := re.fullmatch(r".*@v(\d+)\.0\.0", tag))]


def is_at_remote(branch: str) -> bool:
    """Whether the remote has a branch of that name. Raises ValueError where it cannot be asked."""
    return bool(_must("ls-remote", REMOTE, f"refs/heads/{branch}", is_remote=True))


def changed_files(since: str) -> list[str]:
    """What the commit that is checked out has otherwise than that one. Raises ValueError where git does not know it."""
    return _must("diff", "--name-only", f"{since}^{{commit}}", "HEAD", "--").splitlines()


def _checked_out() -> str:
    found = _git("symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()
    if not found:
        raise ValueError("no branch is checked out, expected one to push to: `git switch` to it, then run again")
    return found


def _push(*arguments: str, branch: str) -> None:
    done = _git("push", "--quiet", *arguments, is_remote=True)
    if done.returncode == 0:
        return
    if "[rejected]" in done.stderr:
        raise RefusedError(
            f"{REMOTE} has commits on {branch} that are not here: `git pull --no-rebase {REMOTE} {branch}`, then run again"
        )
    if "[remote rejected]" in done.stderr:
        raise RefusedError(
            f"{REMOTE} does not take a push to {branch} ({_reason(done)}): allow it, or publish to a branch"
        )
    raise ValueError(f"git cannot push to {REMOTE} ({_reason(done)})")


def git_in(folder: Path, *arguments: str) -> str:
    """Run git in another folder, and return what it printed. Raises ValueError where git refuses."""
    return _must(*arguments, folder=folder)


def committed(path: Path) -> bytes:
    """Return a file as the commit that is checked out has it; nothing where it has none."""
    command = ["git", "show", f"HEAD:./{path}"]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else b""


def _must(*arguments: str, folder: Path | None = None, is_remote: bool = False) -> str:
    done = _git(*arguments, folder=folder, is_remote=is_remote)
    if done.returncode != 0:
        verb = next(
            word for word, before in zip(arguments, ("", *arguments), strict=False) if "-c" not in (word, before)
        )
        raise ValueError(f"git refuses to {verb} ({_reason(done)})")
    return done.stdout


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    return redactor()(" ".join(done.stderr.split()))[:300]


def _git(*arguments: str, folder: Path | None = None, is_remote: bool = False) -> subprocess.CompletedProcess[str]:
    command = ["git", *ATTACHED, *arguments]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PUSH_SECONDS if is_remote else None,
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},  # nobody is there to be asked
            # this workspace is not free before git is done; what speaks with a remote may leave a helper that keeps passwords
            pass_fds=() if is_remote else held(),
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {PUSH_SECONDS} s")
