"""Fine-tune SqueezeNet with fastai as its documentation says, and with this project, on the same files.

`vision_learner(…).fine_tune(epochs)`: a new head on the frozen body for an epoch, then all layers at rates that fall
towards the input. fastai runs in a process of its own, which imports nothing of this project.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.kit.labelled import SQUEEZENET
from tasks.data.samples.samples import Positions, Samples
from tasks.embedding.embedder import Embedder, plan
from tasks.images.augment import AugmentedViews
from tasks.images.decode import decode_sample
from tasks.machine.cores import in_turn
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.prediction.answers import Answerer
from tasks.targets.classes import likeliest
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.path import put, weights_at
from tasks.training.finetuning.tuning import Data, fine_tune, open_source
from tasks.training.heads.logistic import fit_head
from tasks.training.heads.options import HeadOptions

SIZE = 96  # px; the photographs of hands have 100
EPOCHS = 5  # of fastai, after the one of its head
VAL_FRACTION = 0.2  # of the labelled images, for the choices of this project; fastai trains on all of them

FASTAI = """
import json, sys, time
import torch
from fastai.vision.all import *
from safetensors.torch import load_file

settings = json.load(open(sys.argv[1]))
set_seed(settings["seed"])
rows = settings["labelled"] + settings["heldout"]
start = time.perf_counter()
block = DataBlock(
    blocks=(ImageBlock, CategoryBlock), get_items=lambda _: range(len(rows)), get_x=lambda row: rows[row][0],
    get_y=lambda row: rows[row][1], splitter=IndexSplitter(range(len(settings["labelled"]), len(rows))),
    item_tfms=Resize(settings["size"]),
    batch_tfms=[*aug_transforms(do_flip=False, max_rotate=10.0, max_zoom=1.1, max_warp=0.0),
                Normalize.from_stats(*imagenet_stats)],
)
loaders = block.dataloaders(None, bs=32, num_workers=2)
learn = vision_learner(loaders, models.squeezenet1_1, pretrained=False, normalize=False)
network = models.squeezenet1_1()
network.load_state_dict(load_file(settings["weights"]))
learn.model[0][0].load_state_dict(network.features.state_dict())
learn.validate = lambda *args, **kwargs: None
with learn.no_bar(), learn.no_logging():
    learn.fine_tune(settings["epochs"])
seconds = time.perf_counter() - start
answers, truths = learn.get_preds(ds_idx=1)
print(json.dumps({"seconds": seconds, "accuracy": (answers.argmax(dim=1) == truths).float().mean().item()}))
"""


def reason_to_skip() -> str | None:
    """Return why fastai cannot be measured; None if it can."""
    if not SQUEEZENET.is_file():
        return f"there is no {SQUEEZENET.name}"
    return None if find_spec("fastai") else "fastai is not installed"


def compare(
    place: Path, rows: pd.DataFrame, raw: Path, options: FinetuneOptions, head: HeadOptions, *, seed: int
) -> dict[str, Any]:
    """Return the seconds of both from files to the trained network, and the accuracies on held-out images."""
    order = np.random.default_rng(seed).permutation(len(rows))
    labelled, heldout = order[: int(0.8 * len(rows))], order[int(0.8 * len(rows)) :]
    listed = {name: [[str(raw / rows["path"][row]), rows["label"][row]] for row in part]
              for name, part in (("labelled", labelled), ("heldout", heldout))}  # fmt: skip
    settings = {"seed": seed, "size": SIZE, "epochs": EPOCHS, "weights": str(SQUEEZENET)} | listed
    (place / "fastai.json").write_text(json.dumps(settings), "utf-8")
    command = [sys.executable, "-c", FASTAI, str(place / "fastai.json")]
    theirs = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
    ours = run(place / f"scratch-{seed}", rows, raw, options, head, labelled=labelled, heldout=heldout, seed=seed)
    return {"seed": seed, "fastai": theirs, "ours": ours, "ratio": theirs["seconds"] / ours["seconds"]}


def run(
    scratch: Path, rows: pd.DataFrame, raw: Path, options: FinetuneOptions, head: HeadOptions, *,
    labelled: Positions, heldout: Positions, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Train a head, fine-tune from there, and take the model that val chooses, as the stages do."""
    start = time.perf_counter()
    num_val = int(VAL_FRACTION * len(labelled))
    val, train = labelled[:num_val], labelled[num_val:]
    backbone = load_backbone("squeezenet1_1", weights=str(SQUEEZENET), image_size=SIZE)
    samples: Samples[Any] = Samples(rows, raw=raw, decode=decode_sample)
    names, labels = np.unique(rows["label"], return_inverse=True)
    model = Classifier(backbone, {"label": names.tolist()})
    vectors = {name: features(samples, backbone, part) for name, part in (("train", train), ("val", val))}
    layer = fit_head(
        (vectors["train"], labels[train]), (vectors["val"], labels[val]), replace(head, class_weights="none"),
        classes=names.tolist(),
    )  # fmt: skip
    model.graft({"label": [(torch.from_numpy(layer.weight), torch.from_numpy(layer.bias))]})
    begin = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    data = Data(labels=torch.from_numpy(labels)[:, None], train=train, val=val)
    source = open_source(
        samples, model, data, views=AugmentedViews(augmentation=options, seed=seed), scratch=scratch,
        backbone="squeezenet", options=options,
    )  # fmt: skip
    tuned = fine_tune(model, source, data, options=options, seed=seed)
    put(
        model,
        weights_at(tuned.verdict.share, begin, {key: tensor.clone() for key, tensor in model.state_dict().items()}),
    )
    seconds = time.perf_counter() - start
    answerer, transform = Answerer(model, device="cpu"), backbone.transform
    pixels = transform.stack([transform.prepare(samples.decoded(int(row))) for row in heldout])
    answers = likeliest(answerer.answer(pixels)["label"])
    return {
        "seconds": seconds, "accuracy": float((answers == labels[heldout]).mean()), "share": tuned.verdict.share,
        "epochs": len(tuned.history.epochs) - 1,
    }  # fmt: skip


def features(samples: Samples[Any], backbone: Any, rows: Sequence[int] | Positions) -> Any:
    """Return the engine's features (n, dim) of some samples."""
    embedder, transform = Embedder(backbone, plan()), backbone.transform
    size = embedder.plan.minibatch_size

    def decode(part: Positions) -> Tensor:
        return embedder.stack([transform.prepare(samples.decoded(int(row))) for row in part])

    parts = np.split(np.asarray(rows), range(size, len(rows), size))
    return np.concatenate(
        [own.double().numpy() for own in in_turn(parts, decode, embedder, device=embedder.plan.device)]
    )
