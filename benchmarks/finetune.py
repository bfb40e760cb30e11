"""Measure the cost of fine-tuning on kept activations, against the loop that a user would write.

It also checks that a killed run ends in the same bytes.

Both sides train the last block of resnet18 at 224 px on the shared photographs of hands, with 3 seeds. They start from
the same weights and the same trained head, and follow the same recipe: AdamW, warm-up and cosine, clipping, label
smoothing, random rotations, shifts and scales, minibatches of 32, frozen statistics of normalisation, the last epoch's
weights.

The project has no pretrained weights of resnet18, so the weights are random, with the normalisation statistics of the
images. The accuracies compare the two loops; they show nothing about transfer (`benchmarks.transfer` does).

- plain: Pillow, torchvision's transforms, a DataLoader with 2 workers, float32, eager. It recomputes the frozen layers
  in every epoch, on a new view. It runs in a process of its own, which imports nothing of this project.
- ours: `tasks.training.finetuning.tuning.fine_tune` on kept activations, a few views per image. Images per second
  count the training epochs only; `cache` has the seconds that decode the images and compute the activations.
- matmul_limit: images per second if the forward and backward pass of the trained part ran at the speed of large matrix
  products in our precision, on all cores. `limit_over_plain` is the largest ratio that this limit allows.
- over_fastai: seconds of fastai's `vision_learner(…).fine_tune(5)` over ours, with SqueezeNet from ImageNet on the same
  photographs at 96 px, from files to the trained network, and over_fastai_points: our accuracy on a fifth that neither
  has seen, minus theirs. See `benchmarks.kit.fastai_run`. Skipped where fastai is not installed.
- resume_identical: the stage on the demo's digits with gradual unfreezing, killed (-9) at random moments until it
  finishes. It is 1 if the candidate's bytes equal those of an undisturbed run.

--quick: one seed, fewer images and epochs.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.kit import fastai_run
from benchmarks.kit.machine import Claim, finish, parse_arguments
from benchmarks.kit.matmul import matmul_flops
from tasks.data.samples.samples import Positions, Samples, sample_id
from tasks.embedding.boundary import Boundary
from tasks.embedding.embedder import Embedder, plan
from tasks.images.augment import AugmentedViews
from tasks.images.decode import decode_sample
from tasks.images.transform import Transform
from tasks.machine.cores import one_thread_each, spread
from tasks.models.classifier import Classifier
from tasks.models.weights import RANDOM, load_backbone
from tasks.stage.params import load_params
from tasks.training.finetuning.activations import Activations
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.tuning import Data, fine_tune
from tasks.training.finetuning.unfreezing import Trained, boundary_of
from tasks.training.heads.logistic import fit_head
from tasks.training.heads.options import HeadOptions

ROOT = Path(__file__).parent.parent
SIGNS = ROOT.parent / "shared/data/sign-digits.tar"
CHOICES: dict[str, Any] = {
    "unfreeze": 1, "gradual": False, "minibatch_size": 32, "head_learning_rate": 0.001, "backbone_learning_rate": 0.001,
    "learning_rate_decay": 1.0, "weight_decay": 0.01, "decay_towards": "zero", "warmup_fraction": 0.1,
    "label_smoothing": 0.1, "mixup": 0.0, "averaging": 0.0, "gradient_norm": 1.0, "num_views": 4,
}  # fmt: skip
# as docs/transfer.md has it for these photographs
BESIDE_FASTAI: dict[str, Any] = {
    "unfreeze": 4,
    "backbone_learning_rate": 0.001,
    "learning_rate_decay": 1.0,
    "epochs": 8,
}

PLAIN = """
import json, math, sys, time
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18
from torchvision.transforms import v2

settings = json.load(open(sys.argv[1]))
choices, num_classes, seed = settings["choices"], settings["num_classes"], settings["seed"]
torch.manual_seed(seed)
SCALE = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
         v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
AFFINE = v2.RandomAffine(choices["max_rotation_degrees"], (choices["max_shift_fraction"],) * 2,
                         (1 - choices["max_scale_fraction"], 1 + choices["max_scale_fraction"]),
                         interpolation=v2.InterpolationMode.BILINEAR)

class Photographs(Dataset):
    def __init__(self, listed, transform):
        self.listed, self.transform = listed, v2.Compose(transform)
    def __len__(self):
        return len(self.listed)
    def __getitem__(self, index):
        path, label = self.listed[index]
        return self.transform(Image.open(path).convert("RGB")), label

model = resnet18(num_classes=num_classes)
model.load_state_dict(load_file(settings["weights"]))
model.eval().requires_grad_(False)
trained = [*model.layer4[1].parameters(), *model.fc.parameters()]
for parameter in trained:
    parameter.requires_grad_(True)
loader = DataLoader(Photographs(settings["train"], [v2.Resize(256), AFFINE, v2.CenterCrop(224)] + SCALE),
                    batch_size=choices["minibatch_size"], shuffle=True, drop_last=True, num_workers=2)
optimizer = torch.optim.AdamW(trained, lr=choices["backbone_learning_rate"], weight_decay=choices["weight_decay"])
steps = settings["epochs"] * len(loader)
warmup = int(steps * choices["warmup_fraction"])
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / (warmup + 1) if step < warmup
    else 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))))
criterion = torch.nn.CrossEntropyLoss(label_smoothing=choices["label_smoothing"])
seconds, seen = 0.0, 0
for epoch in range(settings["epochs"]):
    start = time.perf_counter()
    for images, labels in loader:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, choices["gradient_norm"])
        optimizer.step()
        schedule.step()
        seen += len(labels)
    seconds += time.perf_counter() - start
with torch.inference_mode():
    loader = DataLoader(Photographs(settings["val"], [v2.Resize(256), v2.CenterCrop(224)] + SCALE),
                        batch_size=32, num_workers=2)
    hits = sum((model(images).argmax(dim=1) == labels).sum().item() for images, labels in loader)
print(json.dumps({"images_per_second": seen / seconds, "val_accuracy": hits / len(settings["val"])}))
"""


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    with tempfile.TemporaryDirectory() as place:
        runs = compare(Path(place), is_quick=is_quick) if SIGNS.is_file() else []
        fastai = beside_fastai(Path(place), seeds=1 if is_quick else 3) if SIGNS.is_file() else []
        resumed = resume(Path(place), num_kills=2 if is_quick else 5)
    claims = [Claim(name="finetune.resume_identical", value=float(resumed["identical"]), target=1.0, at_least=True)]
    raw: dict[str, Any] = {"runs": runs, "resume": resumed}
    if runs:
        middle = {key: statistics.median(run[key] for run in runs) for key in ("ratio", "limit_over_plain")}
        gaps = [100 * (run["ours"]["val_accuracy"] - run["plain"]["val_accuracy"]) for run in runs]
        raw |= middle | {"accuracy_gaps_points": gaps}
        claims += [
            Claim(name="finetune.ratio_plain", value=middle["ratio"], target=6.0, at_least=True),
            Claim(name="finetune.accuracy_gap_points", value=statistics.mean(gaps), target=-0.5, at_least=True),
        ]
    else:
        raw["skipped"] = f"there is no {SIGNS.name}"
    if fastai:
        points = [100 * (run["ours"]["accuracy"] - run["fastai"]["accuracy"]) for run in fastai]
        ratio = statistics.median(run["ratio"] for run in fastai)
        raw["fastai"] = fastai
        claims += [
            Claim(name="finetune.over_fastai", value=ratio, target=2.0, at_least=True),
            Claim(name="finetune.over_fastai_points", value=statistics.mean(points), target=-0.5, at_least=True),
        ]
    else:
        raw["fastai_skipped"] = fastai_run.reason_to_skip() or raw["skipped"]
    finish(settings={"quick": is_quick} | CHOICES, raw=raw, claims=claims)


def compare(place: Path, *, is_quick: bool) -> list[dict[str, Any]]:
    """Return a row per seed. The two sides run one after the other."""
    rows = photographs(place / "signs")
    num_train, epochs, seeds = (160, 2, 1) if is_quick else (480, 6, 3)
    params = load_params(Path("params.yaml"))
    options = replace(params.finetune, **CHOICES | {"epochs": epochs})
    return [
        {"seed": seed}
        | one_seed(
            place, rows, options, params.train_head, seed, num_train=num_train, num_val=240 if is_quick else len(rows)
        )
        for seed in range(seeds)
    ]


def beside_fastai(place: Path, *, seeds: int) -> list[dict[str, Any]]:
    """Return a row per seed; none where fastai cannot be measured."""
    if fastai_run.reason_to_skip():
        return []
    params = load_params(ROOT / "params.yaml")
    rows = photographs(place / "hands")
    options = replace(params.finetune, **BESIDE_FASTAI)
    runs = [
        fastai_run.compare(place, rows, place / "hands", options, params.train_head, seed=seed) for seed in range(seeds)
    ]
    for run in runs:
        print(json.dumps(run), file=sys.stderr, flush=True)
    return runs


def one_seed(
    place: Path,
    rows: pd.DataFrame,
    options: FinetuneOptions,
    head: HeadOptions,
    seed: int,
    *,
    num_train: int,
    num_val: int,
) -> dict[str, Any]:
    order = np.random.default_rng(seed).permutation(len(rows))
    train, val = order[:num_train], order[num_train : num_train + num_val]
    names = sorted(set(rows["label"]))
    labels = np.array([names.index(name) for name in rows["label"]])
    torch.manual_seed(seed)
    backbone = load_backbone("resnet18", weights=RANDOM)
    samples = Samples(rows, raw=place / "signs", decode=decode_sample)
    learn_statistics(backbone, samples, train[:256])
    model = Classifier(backbone, {"label": names})
    graft_head(model, samples, labels, train, val, head)
    weights = place / "resnet18.safetensors"
    save_file(whole_network(model), weights)

    listed = {name: [[str(place / "signs" / rows["path"][row]), int(labels[row])] for row in part]
              for name, part in (("train", train), ("val", val))}  # fmt: skip
    settings = {"choices": asdict(options), "epochs": options.epochs, "num_classes": len(names), "seed": seed,
                "weights": str(weights)} | listed  # fmt: skip
    (place / "settings.json").write_text(json.dumps(settings), "utf-8")
    command = [sys.executable, "-c", PLAIN, str(place / "settings.json")]
    plain = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)

    boundary = boundary_of(model, 1)
    assert isinstance(boundary, Boundary)
    chosen = plan(options)
    source = Activations(
        samples, embedder=Embedder(backbone, chosen, boundary=boundary), boundary=boundary, backbone=f"seed {seed}",
        views=AugmentedViews(augmentation=options, seed=seed), options=options, train=train, val=val,
        path=place / "activations",
    )  # fmt: skip
    start = time.perf_counter()
    computed = source.keep()
    cache_seconds = time.perf_counter() - start
    timed = Timed(source)
    flops = flops_of(model)
    data = Data(labels=torch.from_numpy(labels)[:, None], train=train, val=val)
    tuned = fine_tune(model, timed, data, options=options, seed=seed)
    speed = timed.num_images / timed.seconds
    limit = matmul_flops(chosen) / flops
    result = {
        "plain": plain,
        "ours": {
            "images_per_second": speed,
            "precision": chosen.precision,
            "val_accuracy": tuned.history.epochs[-1].val.accuracy,
            "cache": {"seconds": cache_seconds, "views": computed, "bytes": computed * source.value_bytes},
        },
        "ratio": speed / plain["images_per_second"],
        "matmul_limit": limit,
        "limit_over_plain": limit / plain["images_per_second"],
        "epochs_that_repay_the_cache": cache_seconds / num_train / (1 / plain["images_per_second"] - 1 / speed),
    }
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


class Timed:
    """A source that measures the seconds of the training epochs.

    An epoch lasts from the request for its first minibatch to the end of its last one.
    """

    def __init__(self, source: Activations) -> None:
        self.source = source
        self.num_views = source.num_views
        self.seconds = 0.0
        self.num_images = 0

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Tensor]:
        start = time.perf_counter()
        yield from self.source.minibatches(rows, view, size=size)
        if view is not None:
            self.seconds += time.perf_counter() - start
            self.num_images += len(rows)


def photographs(folder: Path) -> pd.DataFrame:
    """Unpack the photographs of hands, and return their rows: batch, path, sample_id, label."""
    with tarfile.open(SIGNS) as tar:
        tar.extractall(folder, filter="data")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return pd.DataFrame(
        {
            "batch": ".",
            "path": [str(path.relative_to(folder)) for path in paths],
            "sample_id": [sample_id(path.read_bytes()) for path in paths],
            "label": [path.parent.name for path in paths],
        }
    )


@torch.no_grad()
def learn_statistics(backbone: Any, samples: Samples[Any], rows: Positions) -> None:
    """Compute the statistics of the normalisation layers from the images.

    With the statistics of an untrained network, its features are worthless.
    """
    some = Samples(samples.rows.iloc[rows], raw=samples.raw, decode=decode_sample)
    for part in backbone.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # the mean over all minibatches
            part.reset_running_stats()
    backbone.train()
    for pixels in minibatches(some, backbone.transform, size=32):
        backbone(backbone.transform.normalize(pixels))
    backbone.eval()


def minibatches(samples: Samples[Any], transform: Transform, *, size: int) -> Iterator[Tensor]:
    """Yield the pixels of all samples in tensors (size, 3, height, width) uint8, the last one shorter."""
    pixels = spread(range(len(samples)), lambda row: transform.prepare(samples.decoded(row)))
    while part := list(islice(pixels, size)):
        yield transform.stack(part)


def graft_head(
    model: Classifier, samples: Samples[Any], labels: Any, train: Positions, val: Positions, options: HeadOptions
) -> None:
    backbone = model.backbone
    embedder = Embedder(backbone, plan())
    size = embedder.plan.minibatch_size

    def features(rows: Positions) -> Any:
        some = Samples(samples.rows.iloc[rows], raw=samples.raw, decode=decode_sample)
        with one_thread_each():
            return torch.cat([embedder(pixels) for pixels in minibatches(some, backbone.transform, size=size)])

    head = fit_head(
        (features(train).double().numpy(), labels[train]),
        (features(val[:200]).double().numpy(), labels[val[:200]]),
        replace(options, class_weights="none", l2_strengths=[0.1], max_iterations=200),
        classes=model.targets["label"].names,
    )
    model.graft({"label": [(torch.from_numpy(head.weight), torch.from_numpy(head.bias))]})


def whole_network(model: Classifier) -> dict[str, Tensor]:
    """Return the network with its head as a torchvision state dict."""
    state = {name: tensor.contiguous() for name, tensor in model.backbone.network.state_dict().items()}
    head = model.heads[0]
    assert isinstance(head, torch.nn.Linear)
    return state | {"fc.weight": head.weight.detach().contiguous(), "fc.bias": head.bias.detach().contiguous()}


def flops_of(model: Classifier) -> float:
    """Return the floating-point operations per image of the forward and backward pass of the trained part."""
    boundary = boundary_of(model, 1)
    assert isinstance(boundary, Boundary)
    trained = Trained(model, boundary)
    with FlopCounterMode(display=False) as counter:
        trained(torch.zeros(8, boundary.width))[0].sum().backward()
    trained.zero_grad()
    return float(counter.get_total_flops()) / 8


def resume(place: Path, *, num_kills: int) -> dict[str, Any]:
    """Run the stage on the demo's digits undisturbed and killed, and compare the bytes."""
    folder = place / "digits"
    make_workspace(folder)
    undisturbed, seconds = run_stage(folder, "undisturbed")
    chance = random.Random(0)
    kills = 0
    while kills < num_kills:
        process = start_stage(folder, "killed")
        try:
            process.wait(timeout=chance.uniform(0.3, 0.95) * seconds)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    killed, _ = run_stage(folder, "killed")
    return {"kills": kills, "seconds_undisturbed": seconds, "identical": killed == undisturbed}


def make_workspace(folder: Path) -> None:
    """Run the verbs up to the head."""
    (folder / "data/raw").mkdir(parents=True)
    (folder / "backbones").symlink_to(ROOT / "backbones")
    params = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    params["finetune"] |= {"unfreeze": 4, "gradual": True, "epochs": 6}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
    (folder / "data/batches.yaml").write_text("batches: [digits]\n", "utf-8")
    (folder / "data/classes.json").write_text((ROOT / "data/classes.json").read_text("utf-8"), "utf-8")
    common = "--manifests data/validated/manifest --classes data/validated/classes.json --batches data/batches.yaml"
    for verb in (
        "demo.digits --out data/raw/digits",
        "scan --raw data/raw/digits --out data/scanned/digits",
        "validate --scanned data/scanned --batches data/batches.yaml --registry data/classes.json "
        "--corrections data/corrections.csv --out data/validated",
        "backbone --out data/models/backbone",
        "embed --raw data/raw/digits --manifest data/validated/manifest/digits.parquet --backbone data/models/backbone"
        " --out data/embeddings/digits.safetensors --hashes data/hashes/digits.safetensors --store data/store",
        f"audit {common} --embeddings data/embeddings --hashes data/hashes --scratch data/scratch --out data/audit "
        "--health data/health",
        f"train_head {common} --embeddings data/embeddings --audit data/audit --raw data/raw --out data/models/head",
    ):
        subprocess.run([sys.executable, "-m", *f"tasks.{verb}".split()], **where(folder), check=True)


def start_stage(folder: Path, name: str) -> "subprocess.Popen[bytes]":
    arguments = (
        "tasks.finetune --manifests data/validated/manifest --classes data/validated/classes.json"
        " --split data/validated/split.json --audit data/audit"
        " --batches data/batches.yaml --raw data/raw --backbone data/models/backbone --head data/models/head"
        " --start-record data/models/start.json --start data/models/start"
        f" --scratch {name}/scratch --out {name}/candidate --curves {name}/training"
    )
    return subprocess.Popen([sys.executable, "-m", *arguments.split()], **where(folder))


def run_stage(folder: Path, name: str) -> tuple[dict[str, bytes], float]:
    """Return the bytes of the outputs by path, and the seconds of the run."""
    start = time.perf_counter()
    status = start_stage(folder, name).wait()
    assert status == 0
    files = [path for part in ("candidate", "training") for path in sorted((folder / name / part).iterdir())]
    return {str(path.relative_to(folder / name)): path.read_bytes() for path in files}, time.perf_counter() - start


def where(folder: Path) -> dict[str, Any]:
    return {"cwd": folder, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "stderr": subprocess.DEVNULL}


if __name__ == "__main__":
    main()
