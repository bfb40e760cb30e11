"""The gate on an evaluation: the shipped rules, one of a test's own, and other limits."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.machine.files import read_json
from tests.kit.verbs import Finished

ROOT = Path(__file__).parents[2]


def judge(
    shell_in: Callable[..., Finished], evaluation: Path, *, candidate: Path, own: str = "",
    golden: tuple[tuple[str, ...], ...] = (), **limits: Any,
) -> tuple[Finished, dict[str, Any]]:  # fmt: skip
    """Run the verb `regression` in a folder of its own; return how it ended, and the verdict.

    Args:
        candidate: the bundle; the folder of the run is made beside it.
        own: a module of rules beside the shipped ones.
        golden: sample_id, target and label of the golden samples.
        limits: lines of params.yaml, by their names.
    """
    folder = candidate.parent / f"judged {evaluation.name} {len(list(candidate.parent.iterdir()))}"
    rules = shutil.copytree(ROOT / "tests/regression", folder / "rules")
    pd.DataFrame(golden, columns=["sample_id", "target", "label"]).to_csv(rules / "golden.csv", index=False)
    (rules / "test_own.py").write_text(own, "utf-8")
    text = (ROOT / "params.yaml").read_text("utf-8")
    for name, limit in limits.items():
        [line] = [line for line in text.splitlines() if line.startswith(f"  {name}:")]
        text = text.replace(line, f"  {name}: {json.dumps(limit)}")
    (folder / "params.yaml").write_text(text, "utf-8")
    done = shell_in(
        folder, "regression", "--evaluation", evaluation, "--candidate", candidate, "--tests", "rules", "--decisions",
        "decisions.jsonl", "--anchor", "anchor.json", "--out", "out",
    )  # fmt: skip
    return done, read_json(folder / "out/verdict.json")
