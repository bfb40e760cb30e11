"""What git does for a run."""

import subprocess
from pathlib import Path

from flows.history import record_in_git
from flows.repro import only_writer


def test_git_that_cleans_up_by_itself_holds_no_workspace_after_the_run(workspace):
    pictures = Path("pictures")
    pictures.mkdir()
    for number in range(2000):  # objects of git's own, of which it packs what is too many
        (pictures / f"{number}").write_text(f"{number}\n" * 200, "utf-8")
    subprocess.run(["git", "config", "gc.auto", "1"], check=True)
    with only_writer():
        record_in_git([pictures], message="many", log=lambda line: None)
    with only_writer():
        packs = list(Path(".git/objects/pack").glob("*.pack"))
    assert packs
