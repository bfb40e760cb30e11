"""The seam to git, and the only module that starts it: commits of a run's own files, tags, and pushes.

Other files that are staged or changed are left alone.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.workspace.environment import environment
from flows.workspace.guard import held
from flows.workspace.redaction import redactor

IDENTITY = ("-c", "user.name=graftline", "-c", "user.email=graftline@localhost")
# else git's cleaning would go on after the run, and hold the workspace by the descriptors that it inherits
ATTACHED = ("-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false")
PLAIN = ("-c", "log.showSignature=false")  # settings of a person would add lines to the output that is read here
REMOTE = "origin"
BY_GATE = "accepted by the gate"  # the reason of a promotion that no person asked for
MADE_BY_A_RUN = re.compile(rf"retrain: |promote [0-9a-f]+: {BY_GATE}$")  # the message of a commit that no person made
PUSH_SECONDS = 3600


class RefusedError(ValueError):
    """The error of a push that the remote refuses: another attempt changes nothing."""


def is_git_checkout() -> bool:
    """Return whether the current directory is in a git checkout.

    Raises:
        ValueError: it is in one that git does not read, such as another user's; or git's settings name another folder.
    """
    done = _git("rev-parse", "--is-inside-work-tree")
    if done.returncode != 0 and "not a git repository" not in done.stderr:
        raise ValueError(f"git does not read this checkout ({_reason(done)})")
    if done.returncode == 0 and done.stdout.strip() != "true":
        raise ValueError(
            f"git takes another folder than {Path.cwd()} for the checkout: `git config --show-origin core.worktree` "
            "and core.bare say why"
        )
    return done.returncode == 0


def has_identity() -> bool:
    """Return whether git knows the author's name for a commit."""
    return all(_git("var", name).returncode == 0 for name in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"))


def user_name() -> str:
    """Return the name that git gives the commits of this person; "" where it knows none."""
    return _git("config", "user.name").stdout.strip() if shutil.which("git") else ""


def record_in_git(paths: Sequence[Path], *, message: str, log: Callable[[str], None], tag: str | None = None) -> None:
    """Commit only these files, as far as they changed, and tag the commit. It may be called again.

    Nothing is done outside of a git checkout.

    Raises:
        ValueError: git refuses.
    """
    if not is_git_checkout():
        log("this is not a git checkout: nothing is committed")
        return
    names = [str(path) for path in paths]
    identity = () if has_identity() else IDENTITY
    _must("add", "--", *names)
    if _must("status", "--porcelain", "--", *names):
        _must(*identity, "commit", "--quiet", "--no-verify", "--only", "-m", message, "--", *names)
    if tag and not _must("tag", "--list", tag):
        _must(*identity, "tag", "--annotate", "-m", message, tag)


def is_recorded(paths: Sequence[Path]) -> bool:
    """Return whether the commit that is checked out has these files as they are."""
    return not (paths and differing(paths))


def differing(paths: Sequence[Path]) -> list[str]:
    """Return the files, among these or in these folders, that differ from the commit that is checked out.

    A file differs also where one of the two sides lacks it.
    """
    status = _must("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *map(str, paths))
    folder = place_in_checkout()
    return [line[3:].removeprefix(folder) for line in status.split("\0") if line]


def check_pushable(*, is_branch_needed: bool) -> None:
    """Raise ValueError if there is no remote to push to, or no branch to push."""
    if not is_git_checkout():
        raise ValueError(
            "this is not a git checkout, so nothing can be published: clone the project, or set publish_to to no"
        )
    if _git("remote", "get-url", REMOTE).returncode != 0:
        raise ValueError(
            f"git has no remote {REMOTE} to publish to: `git remote add {REMOTE} URL`, or set publish_to to no"
        )
    if is_branch_needed:
        _checked_out()


def push_to_git(branch: str | None) -> str:
    """Push the commit that is checked out, and return what was done, in words. It may be called again.

    Args:
        branch: a branch of the project's own that it goes to; None for the branch that is checked out, to which tags go
            too.

    Raises:
        RefusedError: the remote has commits that are not here, or protects the branch.
        ValueError: git cannot reach the remote.
    """
    if branch is None:
        branch = _checked_out()
        _push("--follow-tags", REMOTE, f"HEAD:refs/heads/{branch}", branch=branch)
        return f"pushed git to {branch}"
    tip = _must("ls-remote", REMOTE, f"refs/heads/{branch}", is_remote=True).partition("\t")[0]
    if tip:
        _must("fetch", "--quiet", "--no-tags", REMOTE, f"refs/heads/{branch}", is_remote=True)
        if _git("diff", "--quiet", tip, "HEAD").returncode == 0:
            return f"{branch} has this already"
        if not MADE_BY_A_RUN.match(_must("log", "-1", "--format=%s", tip)):
            return f"{branch} is left as it is: a person made its last commit"
    # a lease: the push replaces nothing but the tip that was looked at
    _push(f"--force-with-lease=refs/heads/{branch}:{tip}", REMOTE, f"HEAD:refs/heads/{branch}", branch=branch)
    return f"pushed git to {branch}"


def unstage(path: Path) -> None:
    """Take the files below the path out of git's index, if they are in it."""
    _git("reset", "--quiet", "--", str(path))


def versions_tagged(artifact: str) -> list[int]:
    """Return the versions of an artifact that have a tag, on any commit."""
    tags = _git("tag", "--list", f"{artifact}@v*").stdout.split()
    return [int(version[1]) for tag in tags if (version := re.fullmatch(r".*@v(\d+)\.0\.0", tag))]


def is_at_remote(branch: str) -> bool:
    """Return whether the remote has a branch of that name. Raises ValueError where it cannot be reached."""
    return bool(_must("ls-remote", REMOTE, f"refs/heads/{branch}", is_remote=True))


def changed_files(since: str) -> list[str]:
    """Return the files of this project in which the commit that is checked out differs from that one.

    Raises:
        ValueError: git does not know the commit.
    """
    return _must("diff", "--name-only", "--relative", f"{since}^{{commit}}", "HEAD", "--").splitlines()


def fetch_lacking(commit: str) -> None:
    """Fetch the files of a commit that a clone without them lacks, for DVC would wait for them for ever.

    A clone that was made with `git clone --filter` lacks files of earlier commits. Where the remote cannot be reached,
    they stay missing.
    """
    if not _git("config", "--get-regexp", r"^remote\..*\.promisor$").stdout:
        return
    listed = _git("rev-list", "--objects", "--no-walk", "--missing=print", f"{commit}^{{commit}}", "--", ".")
    if lacking := [line[1:] for line in listed.stdout.splitlines() if line.startswith("?")]:
        _git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--filter=blob:none", REMOTE, *lacking,
             is_remote=True)  # fmt: skip


def place_in_checkout() -> str:
    """Return the folder of this project in the checkout, such as `svc/`; empty where it is the whole checkout."""
    return _git("rev-parse", "--show-prefix").stdout.strip()


def lock_files() -> list[Path]:
    """Return the locks that git has in this repository now; a git that is killed leaves its own."""
    if not shutil.which("git"):
        return []
    folders = [Path(line) for line in _git("rev-parse", "--absolute-git-dir", "--git-common-dir").stdout.splitlines()]
    locks = {lock.resolve() for folder in folders for lock in [*folder.glob("*.lock"), *folder.glob("refs/**/*.lock")]}
    return sorted(locks)


def working_folders() -> list[Path]:
    """Return the folders of this repository in which a git may be at work: its checkouts, and its own."""
    lines = _git("worktree", "list", "--porcelain").stdout.splitlines()
    common = _git("rev-parse", "--git-common-dir").stdout.strip()
    return [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")] + [
        Path(common).resolve()
    ]


def is_at_remote_with(path: Path) -> bool:
    """Return whether a commit with this file is at the remote, as far as this checkout knows."""
    return bool(_git("log", "-1", "--format=%H", f"--remotes={REMOTE}", "--", str(path)).stdout.strip())


def git_in(folder: Path, *arguments: str) -> str:
    """Run git in another folder, and return its output. Raises ValueError where git refuses."""
    return _must(*arguments, folder=folder)


def committed(path: Path, *, commit: str = "HEAD") -> bytes:
    """Return the content of a file in the commit that is checked out; empty if the commit lacks it.

    Args:
        commit: another one, or "" for the staged content.
    """
    command = ["git", "show", f"{commit}:./{path}"]
    done = subprocess.run(command, capture_output=True, check=False, env=environment())
    return done.stdout if done.returncode == 0 else b""


def _checked_out() -> str:
    branch = _git("symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()
    if not branch:
        raise ValueError("no branch is checked out, expected one to push to: `git switch` to it, then run again")
    return branch


def _push(*arguments: str, branch: str) -> None:
    done = _git("push", "--quiet", *arguments, is_remote=True)
    if done.returncode == 0:
        return
    if "[rejected]" in done.stderr:
        raise RefusedError(
            f"{REMOTE} has commits on {branch} that are not here: "
            f"`git pull --no-rebase {REMOTE} {branch}`, then run again"
        )
    if "[remote rejected]" in done.stderr:
        raise RefusedError(
            f"{REMOTE} does not take a push to {branch} ({_reason(done)}): allow it there, or publish to a branch"
        )
    raise ValueError(f"git cannot push to {REMOTE} ({_reason(done)})")


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
    command = ["git", *ATTACHED, *PLAIN, *arguments]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PUSH_SECONDS if is_remote else None,
            env=environment(GIT_TERMINAL_PROMPT="0", LC_ALL="C"),  # nobody is there to answer a prompt
            # git holds the workspace until it ends; a command to a remote does not, for it may leave a helper that
            # keeps passwords
            pass_fds=() if is_remote else held(),
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {PUSH_SECONDS} s")
