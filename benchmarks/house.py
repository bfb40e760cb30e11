"""Check the promises of the house: no stale results, no needless reruns, no circles of imports, lines that end at 120.

Nothing here is timed.

- `house.stale_results`: modules whose change a warm store missed. Each module that runs when images are embedded,
  augmented or answered is changed in a copy, one number or operator at a time, until a result changes; then a run on
  warm stores has to give the results of a run on cold stores.
- `house.false_reruns`: pairs of a file and a stage of dvc.yaml whose digest of code has the file, though no module that
  the stage runs imports it.
- `house.import_circles`: groups of modules that import each other, at their top or inside functions.
- `house.longest_line`: columns, in code and prose; lines of tables and of addresses do not count.
- `house.code_deps`: entries of dvc.yaml that name code.

--quick changes each module once.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import grimp
import networkx
import yaml

from benchmarks.kit.machine import Claim, finish, parse_arguments
from tasks.machine.sources import reached

ROOT = Path(__file__).parent.parent
PACKAGES = ("tasks", "flows", "benchmarks")
MOST_COLUMNS = 120
PROSE = re.compile(r"https?://|^\s*\|")  # lines that cannot end earlier hold an address, or are the row of a table


def main() -> None:
    arguments = parse_arguments(__doc__)
    most = 1 if arguments.quick else 4
    modules = changed_modules(most)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    false = false_reruns(stages)
    circles = import_circles()
    longest = longest_line()
    raw = {
        "modules": modules,
        "num_touching": sum(module["touches"] for module in modules),
        "false_reruns": false,
        "import_circles": circles,
        "longest_line": longest,
    }
    code_deps = sum(dep.startswith(("tasks", "data/code/")) for stage in stages.values() for dep in stage["deps"])
    claims = [
        ("house.stale_results", sum(module["stale"] for module in modules), 0),
        ("house.false_reruns", len(false), 0),
        ("house.import_circles", len(circles), 0),
        ("house.longest_line", longest["columns"], MOST_COLUMNS),
        ("house.code_deps", code_deps, 100),
    ]
    finish(
        settings={"quick": arguments.quick, "changes_per_module": most},
        raw=raw,
        claims=[Claim(name=name, value=value, target=target, at_least=False) for name, value, target in claims],
    )


def changed_modules(most: int) -> list[dict[str, Any]]:
    """Return the results of changing each module, at most `most` times."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.kit.warm_and_cold", folder, "--most", str(most)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def false_reruns(stages: dict[str, Any]) -> list[list[str]]:
    """Return the pairs (stage, file) where the stage's digest has the file, but no module that it runs imports it.

    The modules that it runs come from grimp, which follows the imports by itself. A verb asks for parts of a modality's
    room by name.
    """
    graph = grimp.build_graph("tasks", cache_dir=None)
    pairs = []
    for name, stage in stages.items():
        verb = re.findall(r"python -m (tasks\.\w+)", stage["cmd"])[0]
        tests = [path for dep in stage["deps"] if dep.startswith("tests/") for path in (ROOT / dep).rglob("*.py")]
        imported = [
            module for path in tests for module in re.findall(r"^from (tasks[\w.]*) import", path.read_text(), re.M)
        ]
        starts = {verb, *imported, *parts_of_rooms(graph)}
        needed = starts | {module for start in starts for module in graph.find_upstream_modules(start)}
        needed |= {
            ".".join(module.split(".")[:count]) for module in needed for count in range(1, module.count(".") + 1)
        }
        files = [path.removesuffix(".py").removesuffix("/__init__") for path in reached(verb, *imported)]
        pairs += [[name, path] for path in files if path.replace("/", ".") not in needed]
    return pairs


def parts_of_rooms(graph: Any) -> list[str]:
    """Return the modules of both modalities that `tasks.stage.modality.room` gives."""
    return [module for module in graph.modules if re.fullmatch(r"tasks\.(images|text)\.\w+", module)]


def import_circles() -> list[list[str]]:
    """Return the groups of modules that import each other."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = networkx.DiGraph()
    for module in graph.modules:
        imports.add_edges_from((module, other) for other in graph.find_modules_directly_imported_by(module))
    return [sorted(group) for group in networkx.strongly_connected_components(imports) if len(group) > 1]


def longest_line() -> dict[str, Any]:
    """Return where the longest line of code or prose stands."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.yaml", "*.yml", "*.toml", "Makefile", ".ci/*"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    lines = [
        (len(line), f"{path}:{number}")
        for path in listed
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), start=1)
        if not PROSE.search(line)
    ]
    columns, place = max(lines)
    return {"columns": columns, "place": place}


if __name__ == "__main__":
    main()
