"""Measure whether the scores of `graftline choose` order backbones as full training does, and their cost.

Twelve backbones: ImageNet's SqueezeNet cut at several depths, sizes and joined parts; the glyph backbone cut at several
depths; ShuffleNets that are trained here from nothing on CIFAR-10 and on the photographs of PACS (`pretrained`); both
networks with random weights. Four sets: scikit-learn's digits and CIFAR-10 (6,000 images), on which the default score
is chosen, and sign-digits and the cartoons of PACS, which confirm it. A fifth of each set, by a hash of the file, is
held out. A backbone is not judged on the set that it was trained on.

Every score sees 1,000 samples of the rest. `accuracy` is that on the held-out images after a head is trained on all of
the rest, as the pipeline trains it. `tau` is the weighted Kendall tau (Vigna 2015) between a score and that accuracy.
`choose.kendall_tau` is the mean over the four sets of the first of `SCORES`, which ranks; `.confirmed` is that over the
two sets that did not choose it. Fine-tuning is far slower: on digits all but the random backbones are fine-tuned, and
`finetuned_tau` is that with the accuracy of the model that would be shipped.

`choose.rank_over_train_time`: processor seconds to rank the fine-tuned backbones (vectors of 1,000 samples, scores,
costs) over those to train them (vectors of all, head, fine-tuning).

--quick: digits and sign-digits, and one fine-tuning. --keep names a file of finished sets, to resume from.
"""

import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import weightedtau

from benchmarks.kit.kept_rows import keep_row, read_rows
from benchmarks.kit.labelled import (
    GLYPHS,
    HELDOUT,
    POOL,
    SHARED,
    SQUEEZENET,
    Labelled,
    Network,
    missing,
    side_by_content,
)
from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.kit.methods import Draw, Recipe, Task, embedding, finetune, train_head
from benchmarks.transfer import recipe as recipe_of
from tasks.choosing.cost import measure
from tasks.choosing.ranking import SCORES
from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.images.augment import AugmentedViews
from tasks.images.decode import decode_sample
from tasks.machine.cores import one_thread_each
from tasks.metrics.transferability import transferability
from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.models.weights import RANDOM
from tasks.stage.params import load_params
from tasks.targets.classes import Classes
from tasks.training.loop.fit import PLAIN, Group, fit

ROOT = Path(__file__).parent.parent
NUM_RANKED = 1000  # samples that the scores see
MOST_IMAGES = 6000  # of a set
SHUFFLENET = "shufflenet_v2_x1_0"
STAGES = ("stage2", "stage3", "stage4", "conv5")
CHOOSING, CONFIRMING = ("digits", "cifar10"), ("sign-digits", "cartoons")
TARS = {
    "sign-digits": ("sign-digits.tar", ""),
    "cifar10": ("cifar10-12k.tar", ""),
    "cartoons": ("pacs-photo-cartoon.tar", "cartoon"),
    "photographs": ("pacs-photo-cartoon.tar", "photo"),
}
PRETRAINED = {"cifar10": 600, "photographs": 300}  # minibatches of PRETRAIN_SIZE images
PRETRAIN_SIZE, PRETRAIN_PX, PRETRAIN_RATE = 64, 32, 2e-3
FINETUNED = "digits"  # the set on which all backbones but the random ones are fine-tuned
TARGET_TAU, TARGET_TIME = 0.65, 0.1


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A set: the bytes of n files, their decoded images, labels (n,) and sides (n,)."""

    contents: list[bytes]
    images: list[Any]
    classes: list[str]
    labels: NDArray[np.int64]
    sides: NDArray[np.int64]

    def labelled(self, network: Network, transform: Any) -> Labelled:
        pixels = np.stack([transform.prepare(image).numpy() for image in self.images])
        return Labelled(network=network, classes=self.classes, pixels=pixels, labels=self.labels, sides=self.sides)


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--keep", type=Path, help="the file of finished sets, to resume from")
    arguments = command.parse_args()
    sets = ("digits", "sign-digits") if arguments.quick else (*CHOOSING, *CONFIRMING)
    skipped = {name: reason for name, (tar, _) in TARS.items() if (reason := missing(tar))}
    done = {row["data"]: row for row in read_rows(arguments.keep)}
    with tempfile.TemporaryDirectory() as folder, one_thread_each():
        networks: dict[str, Network] = {}
        for name in sets:
            if name in done or name in skipped:
                continue
            networks = networks or all_networks(Path(folder), skipped)
            finetuned = [one for one, network in networks.items() if network.weights != RANDOM and name == FINETUNED]
            finetuned = finetuned[:1] if arguments.quick else finetuned
            done[name] = {"data": name} | judge(name, networks, finetuned)
            keep_row(done[name], arguments.keep)
            show(f"{name}: " + ", ".join(f"{score} {tau:.3f}" for score, tau in done[name]["tau"].items()))
    rows = [done[name] for name in sets if name in done]
    settings = {"quick": arguments.quick, "num_ranked": NUM_RANKED, "default": SCORES[0], "skipped": skipped}
    finish(settings=settings, raw=rows, claims=make_claims(rows))


def all_networks(folder: Path, skipped: dict[str, str]) -> dict[str, Network]:
    """Return the backbones by name. Those that are trained here get their weights in `folder`."""

    def imagenet(features: Any, size: int = 64) -> Network:
        return Network(architecture="squeezenet1_1", weights=str(SQUEEZENET), features=features, image_size=size)

    def shuffle(weights: str, features: Any = "penultimate") -> Network:
        return Network(architecture=SHUFFLENET, weights=weights, features=features, image_size=PRETRAIN_PX)

    networks = {
        "imagenet 64 px": imagenet("penultimate"),
        "imagenet 96 px": imagenet("penultimate", 96),
        "imagenet 32 px": imagenet("penultimate", 32),
        "imagenet features.5": imagenet(["features.5"]),
        "imagenet joined": imagenet(["features.5", "features.8", "features.12"]),
        "glyphs joined": shuffle(str(GLYPHS), list(STAGES)),
        "glyphs penultimate": shuffle(str(GLYPHS)),
        "glyphs stage2": shuffle(str(GLYPHS), ["stage2"]),
        "random squeezenet": replace(imagenet("penultimate"), weights=RANDOM),
        "random shufflenet": shuffle(RANDOM),
    }
    for source, steps in PRETRAINED.items():
        if source not in skipped:
            networks[f"trained on {source}"] = shuffle(str(pretrain(source, steps, folder / f"{source}.safetensors")))
    return networks


def pretrain(source: str, steps: int, path: Path) -> Path:
    """Train a ShuffleNet from nothing on the pool of a set by the pipeline's loop, and write its weights to `path`."""
    show(f"training a backbone on {source}")
    torch.manual_seed(0)
    network = Network(architecture=SHUFFLENET, weights=RANDOM, features="penultimate", image_size=PRETRAIN_PX)
    backbone = network.load()
    labelled = read(source).labelled(network, backbone.transform)
    model = Classifier(backbone, {"label": labelled.classes})
    views = AugmentedViews(augmentation=replace(load_params(ROOT / "params.yaml").finetune, flip=True), seed=0)
    labels = torch.from_numpy(labelled.labels)[:, None]
    pool = np.random.default_rng(0).permutation(np.flatnonzero(labelled.sides == POOL))
    val, train = np.split(pool, [len(pool) // 10])
    num_minibatches = len(train) // PRETRAIN_SIZE

    def minibatches(rows: NDArray[np.int64], view: int | None) -> Any:
        for part in np.split(rows, range(PRETRAIN_SIZE, len(rows), PRETRAIN_SIZE)):
            pixels = torch.from_numpy(labelled.pixels[part])
            seen = pixels if view is None else views(pixels, [str(row) for row in part], view)
            yield backbone.transform.normalize(seen), labels[part]

    def shuffled(epoch: int) -> Any:
        order = np.random.default_rng(epoch).permutation(train)
        return minibatches(order[: num_minibatches * PRETRAIN_SIZE], epoch)

    fit(
        model,
        replace(PLAIN, epochs=max(steps // num_minibatches, 1), warmup_fraction=0.15, update_statistics=True),
        targets=list(model.targets.values()),
        seed=0,
        groups=[Group(parameters=list(model.parameters()), learning_rate=PRETRAIN_RATE, weight_decay=0.05)],
        minibatches=shuffled,
        num_minibatches=num_minibatches,
        val_minibatches=lambda: minibatches(val, None),
    )
    save_file({name: tensor.contiguous() for name, tensor in backbone.network.state_dict().items()}, path)
    return path


def read(name: str) -> Pictures:
    """Return a set, of a larger one MOST_IMAGES files that are drawn by a seed."""
    if name == "digits":
        from sklearn.datasets import load_digits

        data = load_digits()
        files = [(str(label), png(scan)) for label, scan in zip(data.target, data.images, strict=True)]
    else:
        tar, inside = TARS[name]
        with tarfile.open(SHARED / "data" / tar) as archive:
            members = [
                member
                for member in sorted(archive.getmembers(), key=lambda member: member.name)
                if member.isfile() and (not inside or inside in PurePath(member.name).parts)
            ]
            if len(members) > MOST_IMAGES:
                kept = np.random.default_rng(0).permutation(len(members))[:MOST_IMAGES]
                members = [members[place] for place in sorted(kept.tolist())]
            files = [
                (PurePath(member.name).parent.name, file.read())
                for member in members
                if (file := archive.extractfile(member))
            ]
    contents = [content for _, content in files]
    classes, labels = np.unique([label for label, _ in files], return_inverse=True)
    return Pictures(
        contents=contents, images=[decode_sample(content, shorter_side=192) for content in contents],
        classes=classes.tolist(), labels=labels.astype(np.int64),
        sides=np.array([side_by_content(PurePath(), content) for content in contents]),
    )  # fmt: skip


def png(scan: NDArray[np.float64]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.round(scan * (255 / 16)).astype(np.uint8)).convert("RGB").save(file, "PNG")
    return file.getvalue()


def judge(data: str, networks: dict[str, Network], finetuned: Sequence[str]) -> dict[str, Any]:
    """Return the scores and the accuracy of every backbone on a set, and how well they agree."""
    pictures = read(data)
    rows = []
    for name, network in networks.items():
        if name == f"trained on {data}":
            continue
        torch.manual_seed(0)  # of the random weights
        backbone = network.load()
        labelled = pictures.labelled(network, backbone.transform)
        row = {"backbone": name} | scored(labelled, backbone, pictures) | trained(labelled, backbone)
        if name in finetuned:
            row |= tuned(labelled)
        show(f"{data}, {name}: probe {row['probe']:.3f}, accuracy {row['accuracy']:.3f}")
        rows.append(row)
    both = [row for row in rows if "finetuned_accuracy" in row]
    result: dict[str, Any] = {"backbones": rows, "tau": taus(rows, "accuracy")}
    if len(both) > 2:
        result["finetuned_tau"] = taus(both, "finetuned_accuracy")
    return result


def taus(rows: Sequence[dict[str, Any]], accuracy: str) -> dict[str, float]:
    """Return the weighted Kendall tau of each score with an accuracy."""
    return {
        score: float(weightedtau([row[score] for row in rows], [row[accuracy] for row in rows]).statistic)
        for score in SCORES
    }


def scored(labelled: Labelled, backbone: Backbone, pictures: Pictures) -> dict[str, Any]:
    """Return the scores and costs of a backbone, and the processor seconds that they took."""
    rows = np.random.default_rng(0).permutation(np.flatnonzero(labelled.sides == POOL))[:NUM_RANKED]
    start = time.process_time()
    vectors = embedding(labelled, backbone)(rows)
    scores = transferability(vectors.astype(np.float16), labelled.labels[rows])
    cost = measure(
        backbone, Embedder(backbone, plan(replace(AUTO, device="cpu"))), {"label": Classes(tuple(labelled.classes))},
        read=lambda at: pictures.contents[rows[at]], decode=decode_sample, names=[str(row) for row in rows],
    )  # fmt: skip
    seconds = time.process_time() - start
    facts = {"samples_per_second": cost.samples_per_second, "latency_ms": cost.latency_ms, "dim": cost.dim}
    return {score: getattr(scores, score) for score in SCORES} | facts | {"rank_seconds": seconds}


def trained(labelled: Labelled, backbone: Backbone) -> dict[str, Any]:
    """Return the held-out accuracy of a head on all of the pool, and the processor seconds of vectors and head."""
    params = load_params(ROOT / "params.yaml")
    recipe = Recipe(head=params.train_head, training=params.finetune, min_steps=0)
    task = Task(labelled=labelled, draw=Draw.of(labelled, 1.0, 0), recipe=recipe, seed=0)
    start = time.process_time()
    vectors = embedding(labelled, backbone)
    head = train_head(task, vectors)
    seconds = time.process_time() - start
    return {"accuracy": share_right(head_answers(head, vectors), labelled), "head_seconds": seconds}


def head_answers(head: Any, vectors: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda rows: head.log_probabilities(vectors(rows)).argmax(axis=1)


def tuned(labelled: Labelled) -> dict[str, Any]:
    """Return the held-out accuracy of the model that would be shipped, and the processor seconds of its training."""
    task = Task(
        labelled=labelled,
        draw=Draw.of(labelled, 1.0, 0),
        recipe=recipe_of("digits", "finetune", is_quick=False),
        seed=0,
    )
    start = time.process_time()
    answers, _ = finetune(task)
    seconds = time.process_time() - start
    return {"finetuned_accuracy": share_right(answers[""], labelled), "train_seconds": seconds}


def share_right(answers: Callable[[Any], Any], labelled: Labelled) -> float:
    heldout = np.flatnonzero(labelled.sides == HELDOUT)
    return float((answers(heldout) == labelled.labels[heldout]).mean())


def make_claims(rows: Sequence[dict[str, Any]]) -> list[Claim]:
    tau = {row["data"]: row["tau"][SCORES[0]] for row in rows}
    claims = []
    for name, sets in (("choose.kendall_tau", list(tau)), ("choose.kendall_tau.confirmed", CONFIRMING)):
        if known := [tau[data] for data in sets if data in tau]:
            claims.append(Claim(name=name, value=float(np.mean(known)), target=TARGET_TAU, at_least=True))
    both = [one for row in rows for one in row["backbones"] if "train_seconds" in one]
    if both:
        ratio = sum(one["rank_seconds"] for one in both) / sum(one["train_seconds"] for one in both)
        claims.append(Claim(name="choose.rank_over_train_time", value=ratio, target=TARGET_TIME, at_least=False))
    return claims


if __name__ == "__main__":
    main()
