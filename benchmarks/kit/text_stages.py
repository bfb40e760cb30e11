"""Run the stages of a text project by hand, each in a process of its own: its peak memory, and its network calls."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.kit.machine import show
from benchmarks.kit.news import ROOT, News, write_params

BATCH = "made"

# peak memory of the process and of those that it started, and every address outside this machine that it asked for
RUN = """
import json, re, resource, runpy, sys
calls = []
def listen(event, arguments):
    if event == "socket.getaddrinfo":
        calls.append(str(arguments[0]))
    elif event == "socket.connect" and isinstance(arguments[1], tuple) and not str(arguments[1][0]).startswith("127."):
        calls.append(str(arguments[1][0]))
sys.addaudithook(listen)
verb, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(f"tasks.{verb}", run_name="__main__", alter_sys=True)
[own] = re.findall(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"peak_kib": max(int(own), children), "calls": calls}))
"""


def run_stages(place: Path, news: News, *, num_texts: int) -> dict[str, Any]:
    """Return the peak memory (GiB) of each stage from scan to train_head on made-up texts, and the calls of all."""
    write_project(place, news, num_texts=num_texts)
    stages: dict[str, dict[str, str]] = {
        "backbone": {"out": "backbone"},
        "scan": {"raw": f"raw/{BATCH}", "out": f"scanned/{BATCH}"},
        "validate": {
            "scanned": "scanned", "batches": "batches.yaml", "registry": "registry.json",
            "corrections": "corrections.csv", "out": "validated",
        },
        "embed": {
            "raw": f"raw/{BATCH}", "manifest": f"validated/manifest/{BATCH}.parquet", "backbone": "backbone",
            "store": "store", "out": f"embeddings/{BATCH}.safetensors", "hashes": f"hashes/{BATCH}.safetensors",
        },
        "audit": {
            "manifests": "validated/manifest", "classes": "validated/classes.json", "embeddings": "embeddings",
            "hashes": "hashes", "batches": "batches.yaml", "out": "audit",
        },
        "train_head": {
            "manifests": "validated/manifest", "classes": "validated/classes.json", "embeddings": "embeddings",
            "audit": "audit", "batches": "batches.yaml", "raw": "raw", "out": "head",
        },
    }  # fmt: skip
    peaks, calls = {}, []
    for verb, arguments in stages.items():
        show(f"{verb} of {num_texts:,} texts")
        usage = run_stage(place, verb, arguments)
        peaks[verb] = usage["peak_kib"] / 2**20
        calls += [f"{verb}: {call}" for call in usage["calls"]]
    return {"peak_gib": peaks, "calls": calls, "num_texts": num_texts}


def run_stage(place: Path, verb: str, arguments: dict[str, str]) -> dict[str, Any]:
    words = [word for name, value in arguments.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-c", RUN, verb, *words]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(place)}  # no variable of a hub
    done = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    usage: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return usage


def write_project(place: Path, news: News, *, num_texts: int) -> None:
    """Write a batch, which is one CSV file, and the parameters."""
    raw = place / "raw" / BATCH
    raw.mkdir(parents=True)
    with (raw / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(news.recombined(num_texts))
    write_params(place / "params.yaml")
    (place / "batches.yaml").write_text(json.dumps({"batches": [BATCH]}), "utf-8")  # JSON is YAML
    (place / "registry.json").write_text(json.dumps({"classes": {}, "version": 0}), "utf-8")
