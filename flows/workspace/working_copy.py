"""A working copy of this repository in another folder: the same code, its own data, its own DVC cache, its own git history."""

from pathlib import Path

from flows.workspace.git import IDENTITY, git_in


def make_workspace(source: Path, target: Path) -> None:
    """Make `target` hold the files of `source` that git knows or would take, and nothing that a run made.

    What is already there as it should be is left alone, and so is what a run made in it. The copy is a git repository,
    so that DVC's comparisons between versions work in it.

    Raises:
        ValueError: `source` is not a git checkout.
    """
    listed = git_in(source, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        file = source / name
        if file.is_file():
            _copy(file, target / name)
    if not (target / ".git").exists():
        git_in(target, "init", "--quiet", "--initial-branch=main")
        commit(target, "The repository as it is")


def commit(workspace: Path, message: str) -> None:
    """Commit all that git knows or would take, under a name of our own; nothing to commit is fine."""
    git_in(workspace, "add", "--all")
    if git_in(workspace, "status", "--porcelain"):
        git_in(workspace, *IDENTITY, "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "-m", message)


def _copy(source: Path, target: Path) -> None:
    """The bytes and, as git has it, whether it can be run."""
    content = source.read_bytes()
    if not (target.is_file() and target.read_bytes() == content):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    target.chmod(target.stat().st_mode & ~0o111 | source.stat().st_mode & 0o111)
