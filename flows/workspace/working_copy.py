"""A working copy of this repository in another folder: the same code, but its own data, DVC cache and git history."""

from pathlib import Path

from flows.workspace.git import IDENTITY, git_in


def make_workspace(source: Path, target: Path) -> None:
    """Copy to `target` the files of `source` that git tracks or would add, without the results of runs.

    Files that are there already stay, as do the results of runs in `target`. The copy is a git repository, so that DVC
    can compare versions in it.

    Raises:
        ValueError: `source` is not a git checkout.
    """
    names = git_in(source, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, names.split("\0")):
        file = source / name
        if file.is_file():
            _copy(file, target / name)
    if not (target / ".git").exists():
        git_in(target, "init", "--quiet", "--initial-branch=main")
        commit(target, "The repository as it is")


def commit(workspace: Path, message: str) -> None:
    """Commit all files that git tracks or would add, as graftline, if any changed."""
    git_in(workspace, "add", "--all")
    if git_in(workspace, "status", "--porcelain"):
        git_in(workspace, *IDENTITY, "-c", "commit.gpgsign=false", "commit", "--quiet", "--no-verify", "-m", message)


def _copy(source: Path, target: Path) -> None:
    """Copy the bytes and, as git does, whether the file can be executed."""
    content = source.read_bytes()
    if not (target.is_file() and target.read_bytes() == content):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()  # writing would follow it
        target.write_bytes(content)
    target.chmod(target.stat().st_mode & ~0o111 | source.stat().st_mode & 0o111)
