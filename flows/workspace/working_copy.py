"""A working copy of this repository in another folder: the same code, its own data, its own DVC cache, its own git history."""

import subprocess
from pathlib import Path


def make_workspace(source: Path, target: Path) -> None:
    """Make `target` hold the files of `source` that git knows or would take, and nothing that a run made.

    What is already there as it should be is left alone, and so is what a run made in it. The copy is a git repository,
    so that DVC's comparisons between versions work in it.

    Raises:
        FileNotFoundError: `source` is not a git checkout.
    """
    listed = _git(source, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        file = source / name
        if file.is_file():
            _copy(file, target / name)
    if not (target / ".git").exists():
        _git(target, "init", "--quiet", "--initial-branch=main")
        commit(target, "The repository as it is")


def commit(workspace: Path, message: str) -> None:
    """Commit all that git knows or would take, under a name of our own; nothing to commit is fine."""
    _git(workspace, "add", "--all")
    identity = ["-c", "user.name=graftline", "-c", "user.email=graftline@localhost", "-c", "commit.gpgsign=false"]
    if _git(workspace, "status", "--porcelain"):
        _git(workspace, *identity, "commit", "--quiet", "--no-verify", "-m", message)


def _copy(source: Path, target: Path) -> None:
    """The bytes and, as git has it, whether it can be run."""
    content = source.read_bytes()
    if not (target.is_file() and target.read_bytes() == content):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    target.chmod(target.stat().st_mode & ~0o111 | source.stat().st_mode & 0o111)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FileNotFoundError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
