"""Measure the cost of a nightly retraining that goes on from the model in use, and its loss of accuracy.

Pictures of CIFAR-10 with the ImageNet SqueezeNet (224 px), whose last three blocks are fine-tuned; all else as
params.yaml has it. A first batch has 3,000 pictures, and each later one 1 % of them. Every night a batch is listed, the
stages audit and train_head run, and then the stage `finetune` with `start: in_use`. Every candidate is put in use, so
that the eighth night is the eighth run in a row. After the first night and after the last one, the same stage also
trains from the backbone on the same data. The models are compared on 2,000 other pictures, which no run has seen.

- warm_cost_fraction: processor seconds of the stage, imports included, over those of the stage from the backbone. The
  activations of earlier runs are kept for both (`kept`), or neither has any (`cold`); the claim is about the larger
  fraction, the mean over the seeds.
- warm_accuracy_points: accuracy of the candidate minus that of the one from the backbone, in points, after the first
  night and after the last; the mean over the seeds, with its interval of 95 %. The claims are about the means.
- nights_from_the_backbone: the nights on which the stage could not go on from the model in use, and reported why.

--quick: one seed, and one night.
"""

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.kit.machine import Claim, finish, parse_arguments, show
from benchmarks.kit.processes import in_processes
from benchmarks.kit.summary import mean_and_half_width
from tasks.images.decode import decode_sample
from tasks.machine.files import read_json, sha256, write_json
from tasks.models.bundle import DESCRIPTION, WEIGHTS, load_bundle
from tasks.prediction.answers import Answerer
from tasks.stage.main import main as run_verb

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
PICTURES = SHARED / "data/cifar10-12k.tar"
SQUEEZENET = SHARED / "weights/squeezenet1_1-imagenet.safetensors"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
FIRST, NEW = 3000, 30  # pictures
CHANGES: dict[str, dict[str, Any]] = {
    "backbone": {
        "architecture": "squeezenet1_1", "weights": str(SQUEEZENET), "features": "penultimate",
    },
    "finetune": {"start": "in_use", "unfreeze": 3, "flip": True, "backbone_every": 100},
}  # fmt: skip
MOST_COST, LEAST_POINTS = 0.15, -0.5


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    seeds, nights = (1, 1) if is_quick else (3, 8)
    settings = {
        "quick": is_quick,
        "first": FIRST,
        "new": NEW,
        "nights": nights,
        "seeds": seeds,
        "params": CHANGES | {"backbone": CHANGES["backbone"] | {"weights": SQUEEZENET.name}},
    }
    if not (PICTURES.is_file() and SQUEEZENET.is_file()):
        finish(settings=settings, raw={"skipped": f"there is no {PICTURES.name} or {SQUEEZENET.name}"}, claims=[])
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(PICTURES) as tar:
            tar.extractall(folder, filter="data")
        runs = [one_seed(Path(folder), seed, num_nights=nights) for seed in range(seeds)]
    fractions = {kept: [run["fractions"][kept] for run in runs] for kept in ("kept", "cold")}
    points = {when: [run["points"][when] for run in runs] for when in ("first", "last")}
    means = {when: mean_and_half_width(of) for when, of in points.items()}
    cost = max(mean_and_half_width(of)[0] for of in fractions.values())
    finish(
        settings=settings,
        raw={
            "runs": runs, "fractions": fractions, "points": points,
            "points_mean_and_half_width": means,
            "nights_from_the_backbone": sum(len(run["from_the_backbone"]) for run in runs),
        },
        claims=[
            Claim(name="finetune.warm_cost_fraction", value=cost, target=MOST_COST, at_least=False),
            *(
                Claim(name=f"finetune.warm_accuracy_points.{when}", value=mean, target=LEAST_POINTS, at_least=True)
                for when, (mean, _) in means.items()
            ),
        ],
    )  # fmt: skip


def one_seed(place: Path, seed: int, *, num_nights: int) -> dict[str, Any]:
    """Return the processor seconds and accuracies of a project's nights."""
    project = Project(place / f"project-{seed}", place / "cifar10", seed=seed, num_nights=num_nights)
    unseen = sorted((place / "cifar10/test").rglob("*.jpg"))
    seconds, accuracies, starts = {}, {}, []
    seconds["full, cold"] = project.night(0)
    for night in range(1, num_nights + 1):
        project.put_in_use()
        seconds[f"warm {night}"] = project.night(night)
        starts.append(read_json(project.folder / "data/training/finetuning.json")["start"])
        if night == 1:
            seconds["warm 1, cold"] = project.finetune(scratch="data/cold")
        if night in (1, num_nights):
            accuracies[f"warm {night}"] = project.accuracy(unseen)
            trained = project.folder / "data/models/trained"
            kept = shutil.copytree(trained, project.folder / "kept", dirs_exist_ok=True)
            project.release()
            seconds[f"full {night}"] = project.finetune()
            accuracies[f"full {night}"] = project.accuracy(unseen)
            shutil.copytree(kept, trained, dirs_exist_ok=True)
    from_the_backbone = [start["reason"] for start in starts if "reason" in start]
    warm = [seconds[f"warm {night}"] for night, start in enumerate(starts, 1) if "reason" not in start]
    result = {
        "seconds": seconds,
        "accuracies": accuracies,
        "fractions": {
            "kept": float(np.mean(warm)) / float(np.mean([seconds["full 1"], seconds[f"full {num_nights}"]])),
            "cold": seconds["warm 1, cold"] / seconds["full, cold"],
        },
        "points": {
            when: 100 * (accuracies[f"warm {night}"] - accuracies[f"full {night}"])
            for when, night in (("first", 1), ("last", num_nights))
        },
        "from_the_backbone": from_the_backbone,
        "starts": starts,
    }
    show(json.dumps(result))
    return result


class Project:
    """A project with a first batch and one a night, which has scanned, validated and embedded them all.

    `validate` writes the same manifest of a batch whatever lands later, so a night only lists one batch more.
    """

    def __init__(self, folder: Path, pictures: Path, *, seed: int, num_nights: int) -> None:
        self.folder, self.seed = folder, seed
        data = folder / "data"
        (data / "models").mkdir(parents=True)
        (folder / "backbones").symlink_to(ROOT / "backbones")
        (data / "classes.json").write_text((ROOT / "data/classes.json").read_text("utf-8"), "utf-8")
        self.params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8")) | {"seed": seed}
        for section, changes in CHANGES.items():
            self.params[section] |= changes
        self.write_params()
        self.release()
        every = sorted((pictures / "train").rglob("*.jpg"))
        drawn = np.random.default_rng(seed).permutation(len(every))[: FIRST + num_nights * NEW]
        starts = [0, *range(FIRST, FIRST + num_nights * NEW, NEW)]
        self.batches = [f"batch-{night}" for night in range(num_nights + 1)]
        for batch, rows in zip(self.batches, np.split(drawn, starts[1:]), strict=True):
            for row in rows:
                target = data / "raw" / batch / every[row].parent.name / f"{row}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(every[row], target)
        self.list_batches(num_nights)
        for batch in self.batches:
            self.do("scan", batch)
        self.do("validate")
        self.do("backbone")
        for batch in self.batches:
            self.do("embed", batch)

    def night(self, number: int) -> float:
        """List the batch of a night, and bring the chain up to the candidate; return the result of `finetune`."""
        self.list_batches(number)
        self.do("audit")
        self.do("train_head")
        return self.finetune()

    def finetune(self, *, scratch: str = "data/scratch") -> float:
        """Run the stage in a fresh process; return its processor seconds, of all threads, imports included."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "tasks.finetune", *words_of("finetune", scratch=scratch)],
            cwd=self.folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def do(self, verb: str, batch: str = "") -> None:
        """Run another stage, in a process that has imported everything."""
        list(in_processes(run_stage, [{"folder": self.folder, "verb": verb, "batch": batch}], at_once=1))

    def accuracy(self, pictures: list[Path]) -> float:
        """Return the accuracy of the trained model."""
        trained = self.folder / "data/models/trained"
        [accuracy] = in_processes(accuracy_of, [{"bundle": trained, "pictures": pictures}], at_once=1)
        return float(accuracy)

    def put_in_use(self) -> None:
        """Record the trained model as the one in use, as an ingest after its promotion does."""
        models = self.folder / "data/models"
        shutil.rmtree(models / "start", ignore_errors=True)
        shutil.copytree(models / "trained", models / "start")
        files = {"model_sha256": WEIGHTS, "description_sha256": DESCRIPTION}
        write_json(models / "start.json", {key: sha256(models / "start" / name) for key, name in files.items()})

    def release(self) -> None:
        write_json(self.folder / "data/models/start.json", {})

    def list_batches(self, number: int) -> None:
        listed = yaml.safe_dump({"batches": self.batches[: number + 1]})
        (self.folder / "data/batches.yaml").write_text(listed, "utf-8")

    def write_params(self) -> None:
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params), "utf-8")


def words_of(stage: str, batch: str = "", *, scratch: str = "data/scratch") -> list[str]:
    """Return the arguments of a stage's command in dvc.yaml, with a batch in place of the matrix's."""
    places = {"item.batch": batch, "GRAFTLINE_STORE:-data/store": "data/store",
              "GRAFTLINE_SCRATCH:-data/scratch": scratch}  # fmt: skip
    command = STAGES[stage]["cmd"].replace("\\$", "$")
    for name, place in places.items():
        command = command.replace(f"${{{name}}}", place)
    return shlex.split(command)[4:]


def run_stage(folder: Path, verb: str, batch: str) -> None:
    os.chdir(folder)
    run_verb(import_module(f"tasks.{verb}").run, words_of(verb, batch))


def accuracy_of(bundle: Path, pictures: Iterable[Path]) -> float:
    """Return the share of pictures that a model gives the class whose name their folder has."""
    model, _ = load_bundle(bundle)
    answerer = Answerer(model)
    transform = answerer.transform
    paths = list(pictures)
    prepared = [
        transform.prepare(decode_sample(path.read_bytes(), shorter_side=transform.shorter_side)) for path in paths
    ]
    answers = model.targets["label"].shown(answerer.answer(prepared)["label"])
    return float(np.mean([answer == path.parent.name for answer, path in zip(answers, paths, strict=True)]))


if __name__ == "__main__":
    main()
