"""Run the benchmarks and keep the JSON of each in benchmarks/results/ (`make bench`).

Four need more than `make setup` and are started by hand: gpu, normalisation, scale and ship.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "active",
    "adaptation",
    "alignment",
    "audit",
    "backbones",
    "candidate",
    "chaos",
    "choose",
    "cost",
    "embed",
    "finetune",
    "firsthour",
    "gate",
    "head",
    "health",
    "hostile",
    "house",
    "multitask",
    "ood",
    "orchestration",
    "pipeline",
    "predict",
    "report",
    "review",
    "serve",
    "text",
    "transfer",
    "validate",
    "warm_start",
    "watch",
)


def main() -> None:
    for name in NAMES:
        print(f"benchmarks.{name} …", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        text = json.dumps(result, indent=1, sort_keys=True) + "\n"
        (HERE / "results" / f"{name}.json").write_text(text, "utf-8")
        for claim in result["claims"]:
            outcome = "holds" if claim["holds"] else "FALLS SHORT"
            print(f"  {outcome}  {claim['name']}: {claim['value']:.4g} (target {claim['target']:g})")


if __name__ == "__main__":
    main()
