"""The verbs of a project, one after the other, in the process of the tests and without DVC."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from tasks.machine.files import read_json, write_json
from tasks.machine.yaml_text import read_yaml
from tasks.stage.params import Params, load_params, section

ROOT = Path(__file__).parents[2]
FEW_FEATURES = {"features": ["stage3", "stage4"]}  # of the backbone: what a test does with them takes less time


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect the lines that the verbs log in the block."""
    lines: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("graftline")
    before = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before)


class Chain:
    """A project with one batch, `first`, in `folder`. `changes` replace sections of params.yaml."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder, self.data = folder, folder / "data"
        self.params: Params = replace(load_params(ROOT / "params.yaml"), **changes)
        data = self.data
        data.mkdir(parents=True)
        (data / "batches.yaml").write_text("batches: [first]\n", "utf-8")
        write_json(data / "classes.json", {"classes": {}, "version": 0})
        write_json(data / "baseline.json", {})
        write_json(data / "start.json", {})
        raw = data / "raw"
        self.paths: dict[str, dict[str, Path]] = {
            "scan": {"raw": raw / "first", "out": data / "scanned/first"},
            "validate": {
                "scanned": data / "scanned", "registry": data / "classes.json",
                "corrections": data / "corrections.csv", "out": data / "validated",
            },
            "backbone": {"out": data / "backbone"},
            "embed": {
                "raw": raw / "first", "manifest": data / "validated/manifest/first.parquet",
                "backbone": data / "backbone", "out": data / "embeddings/first.safetensors",
                "hashes": data / "hashes/first.safetensors",
            },
            "audit": {"hashes": data / "hashes", "out": data / "audit", "health": data / "health"},
            "train_head": {"out": data / "head"},
            "finetune": {
                "start_record": data / "start.json", "start": data / "start", "out": data / "trained",
                "curves": data / "training",
            },
            "adapt": {"out": data / "candidate", "facts": data / "adaptation"},
            "evaluate": {
                "baseline_record": data / "baseline.json", "baseline": data / "baseline", "out": data / "evaluation"
            },
            "regression": {
                "tests": ROOT / "tests/regression", "decisions": data / "decisions.jsonl",
                "anchor": data / "anchor.json", "out": data / "regression"
            },
            "report": {"out": folder / "report.html"},
            "choose": {"out": data / "choice"},
            "quantise": {"out": folder / "int8.onnx"},
            "label": {"corrections": data / "corrections.csv", "model": data / "candidate", "out": data / "label"},
            "correct": {"labels": data / "label/labels.csv", "who": "Ann", "corrections": data / "corrections.csv"},
        }  # fmt: skip
        self.shared = {
            "batches": data / "batches.yaml", "raw": raw, "manifests": data / "validated/manifest",
            "classes": data / "validated/classes.json", "split": data / "validated/split.json",
            "embeddings": data / "embeddings", "audit": data / "audit", "store": data / "store",
            "backbone": data / "backbone", "head": data / "head", "trained": data / "trained",
            "candidate": data / "candidate",
            "validated": data / "validated", "training": data / "training", "evaluation": data / "evaluation",
            "health": data / "health", "scratch": data / "scratch",
            "regression": data / "regression", "adaptation": data / "adaptation",
        }  # fmt: skip

    def land(self, batch: str) -> None:
        """List one more batch; from now on `scan` and `embed` are about that one."""
        listed = read_yaml(self.data / "batches.yaml")["batches"]
        (self.data / "batches.yaml").write_text(f"batches: [{', '.join([*listed, batch])}]\n", "utf-8")
        self.paths["scan"] = {"raw": self.data / "raw" / batch, "out": self.data / "scanned" / batch}
        self.paths["embed"] |= {
            "raw": self.data / "raw" / batch, "manifest": self.data / f"validated/manifest/{batch}.parquet",
            "out": self.data / f"embeddings/{batch}.safetensors", "hashes": self.data / f"hashes/{batch}.safetensors",
        }  # fmt: skip

    def do(self, *verbs: str) -> None:
        """Run verbs. The candidate's folder and others that a verb makes must not be there yet."""
        for verb in verbs:
            run = import_module(f"tasks.{verb}").run
            values: dict[str, Any] = dict(self.paths[verb])
            for name, parameter in signature(run).parameters.items():
                if name not in values:
                    is_path = parameter.annotation is Path
                    values[name] = self.shared[name] if is_path else section(self.params, name)
            run(**values)
        # a test that judges by a copy of the gate's tests needs their names for itself
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "").parent == ROOT / "tests/regression":
                del sys.modules[name]

    def command(self, verb: str, *, params: Path, **paths: Path) -> list[str]:
        """Return the command line of a verb, `python -m tasks.VERB …`. `paths` replace those that it has here."""
        run = import_module(f"tasks.{verb}").run
        words = [sys.executable, "-m", f"tasks.{verb}", "--params", str(params)]
        for name, parameter in signature(run).parameters.items():
            if parameter.annotation is Path:
                path = paths.get(name) or self.paths[verb].get(name) or self.shared[name]
                words += [f"--{name.replace('_', '-')}", str(path)]
        return words

    def json(self, path: str) -> Any:
        """Return the JSON of a file below data/."""
        return read_json(self.data / path)
