"""Measure the cost of a night: the whole chain after 1 % and after 5 % new samples, an idle run, imports.

A project of ten letters, drawn by the demo's generator, has as many pictures as --pictures says. It is fine-tuned as
params.yaml has it, with `finetune.start: in_use`. Its candidate is put in use; then a batch of 1 % is listed and `dvc
repro` runs as a flow runs it; then, in the same way, one of 5 %. Every process of a stage writes down, as it ends, its
own processor seconds and those that passed within imports. `stage.warm` is the process that the stages are forked from.
Python keeps bytecode, which is its default.

- retrain_fraction_1_percent, _5_percent: processor seconds of that `dvc repro`, DVC itself included, over those of the
  first run. `raw.nights` has the seconds of every stage and of its imports; of a stage with a part per batch, of all
  that ran.
- noop_seconds: `python -m flows.retrain` with nothing to do, where no Prefect server runs, minus `dvc status`; medians
  of ROUNDS in turn.
- import_seconds.with_torch, .without_torch: the processor seconds that a process of the slowest of the stages spends in
  imports, those within functions included, where each starts by itself; and of the verbs that are no stages, `import
  tasks.VERB`.
- changed_outputs: the outputs that are other bytes where each stage starts by itself.

--quick: a third of the pictures and one round of the run with nothing to do.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.kit.small_project import set_param
from benchmarks.pipeline import ROOT, dvc, timed
from flows.workspace.paths import stages
from flows.workspace.working_copy import commit, make_workspace
from tasks.demo.glyphs import TRAIN_FONTS, Distortion, distort, draw_glyphs
from tasks.machine.files import sha256, write_json

LETTERS = "ABEGKMQRSW"
PICTURES = 3000
PERCENTS = (1, 5)
ROUNDS = 3
MOST = {1: 0.15, 5: 0.25}  # of the first run's processor seconds
# Python runs this before a stage. It writes down the seconds of the process and of the workers that it waited for.
HOOK = """
import atexit, builtins, importlib, json, os, resource, sys, time

WARM = "stage.warm"  # all other processes are its children
if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("tasks."):
    spent = {"imports": 0.0, "deep": 0}
    def timed(work):
        def run(*arguments, **named):
            spent["deep"] += 1
            before = time.process_time()
            try:
                return work(*arguments, **named)
            finally:
                spent["deep"] -= 1
                if spent["deep"] == 0:
                    spent["imports"] += time.process_time() - before
        return run
    builtins.__import__ = timed(builtins.__import__)
    importlib.import_module = timed(importlib.import_module)
    os.register_at_fork(after_in_child=lambda: spent.update(imports=0.0, deep=0))
    def write():
        is_fork = sys.argv[0].startswith("tasks.")
        name = (sys.argv[0] if is_fork else sys.orig_argv[2]).removeprefix("tasks.")
        processes = [resource.RUSAGE_SELF] if name == WARM else [resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN]
        usages = [resource.getrusage(who) for who in processes]
        spent["seconds"] = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        spent["stage"] = name
        spent["torch"] = "torch" in sys.modules
        with open(os.environ["COST_LOG"], "a") as log:
            log.write(json.dumps(spent) + "\\n")
    atexit.register(write)
"""
REPRO = "from flows.workspace.dvc import lines_of\nfor line in lines_of('repro'): print(line)"  # as a flow does
IMPORT = "import sys, time, tasks.{verb}; print(time.process_time(), 'torch' in sys.modules)"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--pictures", type=int, default=PICTURES, help=f"of the first run (default: {PICTURES})")
    arguments = options.parse_args()
    is_quick = arguments.quick
    num_pictures = arguments.pictures // 3 if is_quick else arguments.pictures
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), num_pictures=num_pictures)
        nights = {"first": project.night(num_pictures)}
        for percent in PERCENTS:
            project.put_in_use()
            nights[f"{percent} percent"] = project.night(num_pictures * percent // 100)
        noop = time_noop(project.folder, rounds=1 if is_quick else ROUNDS)
        before = project.outputs()
        imports = import_seconds(project.each_alone())
        changed = [path for path, digest in project.outputs().items() if before[path] != digest]
    seconds = {name: night["seconds"] for name, night in nights.items()}
    finish(
        settings={"quick": is_quick, "pictures": num_pictures, "letters": LETTERS, "rounds": ROUNDS},
        raw={"nights": nights, "noop": noop, "import_seconds": imports, "changed_outputs": changed},
        claims=[
            *(
                Claim(
                    name=f"cost.retrain_fraction_{percent}_percent",
                    value=seconds[f"{percent} percent"] / seconds["first"], target=MOST[percent], at_least=False,
                )
                for percent in PERCENTS
            ),
            Claim(
                name="cost.noop_seconds", target=2, at_least=False,
                value=statistics.median(noop["retrain"]) - statistics.median(noop["status"]),
            ),
            Claim(name="cost.import_seconds.with_torch", value=slowest(imports, True), target=2.5, at_least=False),
            Claim(name="cost.import_seconds.without_torch", value=slowest(imports, False), target=1, at_least=False),
            Claim(name="cost.changed_outputs", value=len(changed), target=0, at_least=False),
        ],
    )  # fmt: skip


class Project:
    """A project whose batches of drawn letters land one by one."""

    def __init__(self, place: Path, *, num_pictures: int) -> None:
        self.folder = place / "project"
        make_workspace(ROOT, self.folder)
        self.log = place / "stages.jsonl"
        (place / "hook").mkdir()
        (place / "hook/sitecustomize.py").write_text(HOOK, "utf-8")
        os.environ["COST_LOG"] = str(self.log)
        self.path = str(place / "hook")
        set_param(self.folder, "finetune.start", "in_use")
        self.batches: list[str] = []
        self.glyphs, self.labels = draw_glyphs(list(LETTERS), TRAIN_FONTS)

    def night(self, num_new: int) -> dict[str, Any]:
        """List a batch of so many pictures and run the chain; return its processor seconds, in all and by stage."""
        self.batches.append(f"batch-{len(self.batches)}")
        self.draw(self.folder / "data/raw" / self.batches[-1], num_new)
        dvc(self.folder, "add", "--quiet", f"data/raw/{self.batches[-1]}")
        (self.folder / "data/batches.yaml").write_text(f"batches: [{', '.join(self.batches)}]\n", "utf-8")
        commit(self.folder, "A batch")
        night = self.measured(sys.executable, "-c", REPRO)
        show(f"{num_new:,} new pictures: {night['seconds']:.1f} processor seconds, {night['wall_seconds']:.1f} s")
        return night

    def each_alone(self) -> dict[str, dict[str, Any]]:
        """Run every stage again, each in a process that has imported nothing; return their seconds, as `night` does."""
        stages: dict[str, dict[str, Any]] = self.measured(sys.executable, "-m", "dvc", "repro", "--force")["stages"]
        return stages

    def outputs(self) -> dict[str, str]:
        """Return the digest of each output of the stages, by its path."""
        locked = yaml.load((self.folder / "dvc.lock").read_bytes(), Loader=yaml.CSafeLoader)["stages"]
        return {out["path"]: out["md5"] for stage in locked.values() for out in stage["outs"]}

    def measured(self, *command: str) -> dict[str, Any]:
        """Run the chain; return its processor seconds, in all and by stage."""
        self.log.write_text("", "utf-8")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.environ["PYTHONPATH"] = self.path
        wall, _ = timed(list(command), self.folder)
        del os.environ["PYTHONPATH"]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        by_stage: dict[str, dict[str, Any]] = {}
        for line in self.log.read_text("utf-8").splitlines():
            part = json.loads(line)
            nothing = {"seconds": 0.0, "imports": 0.0, "imports_of_one": 0.0, "torch": part["torch"]}
            of_stage = by_stage.setdefault(part["stage"], nothing)
            of_stage["seconds"] += part["seconds"]
            of_stage["imports"] += part["imports"]
            of_stage["imports_of_one"] = max(of_stage["imports_of_one"], part["imports"])
        by_stage["dvc"] = {"seconds": seconds - sum(of_stage["seconds"] for of_stage in by_stage.values())}
        for name, of_stage in by_stage.items():
            show(f"{name:12} {of_stage['seconds']:7.2f} s, imports {of_stage.get('imports', 0):5.2f} s")
        return {"seconds": seconds, "wall_seconds": wall, "stages": by_stage}

    def draw(self, batch: Path, num: int) -> None:
        """Draw the pictures of a batch, as many of every letter."""
        generator = torch.Generator().manual_seed(len(self.batches))
        for number, letter in enumerate(LETTERS):
            glyphs = self.glyphs[self.labels == number]
            count = len(range(number, num, len(LETTERS)))
            chosen = glyphs[torch.randint(len(glyphs), (count,), generator=generator)]
            (batch / letter).mkdir(parents=True)
            pictures = distort(chosen, generator, size=32, limits=Distortion(scan_sizes=(8, 10, 12, 16, 24)))
            for index, picture in enumerate(pictures):
                Image.fromarray(picture[0].numpy()).save(batch / letter / f"{index:04d}.png", compress_level=0)

    def put_in_use(self) -> None:
        """Record the candidate as the model in use and as the start of the next training, as a promotion does."""
        models = self.folder / "data/models"
        for name in ("baseline", "start"):
            bundle = models / name
            subprocess.run(["rm", "-rf", str(bundle)], check=True)
            subprocess.run(["cp", "-rL", str(models / "candidate"), str(bundle)], check=True)
            files = {"model_sha256": "model.safetensors", "description_sha256": "model.json"}
            write_json(models / f"{name}.json", {key: sha256(bundle / file) for key, file in files.items()})


def time_noop(project: Path, *, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of a run with nothing to do, without a server, and those of `dvc status`, in turn."""
    retrain = [sys.executable, "-m", "flows.retrain"]
    timed(retrain, project)
    noop: dict[str, list[float]] = {"status": [], "retrain": []}
    for _ in range(rounds):
        noop["status"].append(dvc(project, "status")[0])
        noop["retrain"].append(timed(retrain, project)[0])
    return noop


def import_seconds(of_stages: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the processor seconds of each verb's imports, and whether it imports torch."""
    seconds = {
        name: {"seconds": of_stage["imports_of_one"], "torch": of_stage["torch"]}
        for name, of_stage in of_stages.items()
        if "imports_of_one" in of_stage
    }
    for file in sorted((ROOT / "tasks").glob("*.py")):
        if not file.stem.startswith("__") and file.stem not in stages(ROOT / "dvc.yaml"):
            printed = timed([sys.executable, "-c", IMPORT.format(verb=file.stem)], ROOT)[1].split()
            seconds[file.stem] = {"seconds": float(printed[0]), "torch": printed[1] == "True"}
    return seconds


def slowest(seconds: dict[str, dict[str, Any]], has_torch: bool) -> float:
    return max(float(of_verb["seconds"]) for of_verb in seconds.values() if of_verb["torch"] == has_torch)


if __name__ == "__main__":
    main()
