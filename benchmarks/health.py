"""Measure the audit's findings about the health of data, and whether `predict` marks samples of another data set.

**Label errors.** Labels of public sets are planted wrong at random, 5 % and 20 % of them, on the vectors of a frozen
backbone: scikit-learn's digits on the glyph backbone; sign-digits, the photographs of PACS and 3,000 images of CIFAR-10
on ImageNet's SqueezeNet at 128 px; 3,000 items of AG News on MiniLM. `ap` is the average precision of the audit's
ranking. The peer is cleanlab on the same vectors, as its documentation says to use it: scikit-learn's logistic
regression in `cross_val_predict`, with and without standardised features, and self confidence or normalised margin; the
best of the four counts. `share_right` is how often the audit's head answers with the label that was there before: where
the head is often wrong, its errors hide the planted ones. `limit` is the average precision of a judge that no audit can
have: the same head and votes, which learned the labels that were there before. It is the limit of what these vectors
show about wrong labels.

**Cost.** The stage runs as DVC runs it, on 100,000 samples of two batches with 20 classes and 10,000 held-out ones. The
vectors are made up.

**Drift.** Batches that are shifted by the same amount against as many samples before them, 500 to 50,000 of each:
`spread` is between the largest and the smallest mean effect size of a shift.

**Unlike samples.** A detector is made of each set's train and val, at levels of 1 % and 5 %. `false_alarms` is the
share of the set's held-out samples that it finds, over ten splits, `found` that of the samples of the other sets that
the same network embeds, over five. News are judged against the demo's support tickets. Of images this is done twice:
with the features of the network's last depth, and with those of the ends of its four quarters joined. `taught` is the
share that a judge finds at the same limit which no detector can be: a linear classifier that learned from samples of
both sets to separate them. It shows whether the vectors differ between the sets.

Without cleanlab, or without the shared data, a part is skipped, and the JSON has the reason. --quick draws once, and
leaves out the cost and the photographs.
"""

import json
import logging
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.audit import spread
from benchmarks.kit import news
from benchmarks.kit.labelled import Labelled, missing, read_digits, read_tar, side_by_content, squeezenet
from benchmarks.kit.machine import Claim, finish, parse_arguments, show
from benchmarks.kit.methods import embedding
from tasks.audit import judge_labels
from tasks.data.health.batch_drift import drawn, drift
from tasks.data.health.hashes import Probes, write_hashes
from tasks.data.health.known import MOST_REFERENCES, keep
from tasks.data.health.neighbours import find_neighbours
from tasks.data.health.unlike import directions, limit_of
from tasks.data.manifest.tables import write_table
from tasks.data.vectors.embeddings import Embeddings, read_embeddings, write_embeddings
from tasks.demo import tickets
from tasks.embedding.embedder import AUTO, plan
from tasks.images.copy_hash import HASHES_SHAPE
from tasks.machine.cores import one_thread_each
from tasks.machine.files import write_json
from tasks.stage.params import load_params
from tasks.targets.classes import Classes

ROOT = Path(__file__).parent.parent
IMAGE_SIZE = 128  # px, of all sets that one network embeds, so that a detector of one can judge the others
MOST_SAMPLES = 3000
NOISE = (0.05, 0.2)
SHIFTS = (0.0, 0.15, 0.3, 0.6)
SIZES = (500, 2_000, 10_000, 50_000)
LEVELS = (0.01, 0.05)
SPLITS = 10
FOUND_SPLITS = 5  # of these, for the samples of other sets
MOST_JUDGED = 500  # samples of another set
DIM = 512
SQUEEZENET = replace(squeezenet(IMAGE_SIZE).at_depths(), power=1.0)  # its last depth is the penultimate layer
SQUEEZENET_DIM = 512  # of the last depth

Set = tuple[NDArray[np.float16], NDArray[np.int64], list[str]]  # vectors (n, dim), labels (n,), classes


def read_images(archive: str, inside: str | None = None) -> Set:
    return embedded(read_tar(archive, SQUEEZENET, side_by_content, inside=inside))


def read_news() -> Set:
    known = news.News.read()
    rows = drawn_rows(len(known.labels))
    return embedded_texts([known.texts[row] for row in rows]), known.labels[rows], known.names


def read_tickets() -> Set:
    rows = [(text, label) for text, label in tickets.batch(1000, random.Random(0)) if text.strip() and label]
    names, labels = np.unique([label for _, label in rows], return_inverse=True)
    return embedded_texts([text for text, _ in rows]), labels, names.tolist()


def archive_is_missing(name: str) -> Callable[[], str | None]:
    return lambda: missing(name)


# the network, why a set cannot be read or None, and how it is read
READ: dict[str, tuple[str, Callable[[], str | None], Callable[[], Set]]] = {
    "digits": ("glyphs", lambda: None, lambda: embedded(read_digits())),
    "sign-digits": ("squeezenet", archive_is_missing("sign-digits.tar"), lambda: read_images("sign-digits.tar")),
    "cifar10": ("squeezenet", archive_is_missing("cifar10-12k.tar"), lambda: read_images("cifar10-12k.tar")),
    "photographs": (
        "squeezenet", archive_is_missing("pacs-photo-cartoon.tar"),
        lambda: read_images("pacs-photo-cartoon.tar", "photo"),
    ),
    "news": ("minilm", news.missing, read_news),
    "tickets": ("minilm", news.missing, read_tickets),  # a grammar made them: they only serve as samples unlike news
}  # fmt: skip
ONLY_OTHERS = ("tickets",)


def main() -> None:
    arguments = parse_arguments(__doc__)
    logging.getLogger("graftline").setLevel(logging.WARNING)
    raw: dict[str, Any] = {"label_errors": {}, "skipped": {}}
    sets: dict[str, Set] = {}
    for name, (_, why_not, read) in READ.items():
        if arguments.quick and name == "photographs":
            continue
        if reason := why_not():
            raw["skipped"][name] = reason
            continue
        sets[name] = read()
        show(f"{name}: {len(sets[name][0]):,} vectors")
    with tempfile.TemporaryDirectory() as folder:
        for name, data in sets.items():
            if name in ONLY_OTHERS:
                continue
            last = of_last_depth(name, data)
            raw["label_errors"][name] = label_errors(last, Path(folder) / name, draws=1 if arguments.quick else 2)
            show(f"{name}: {json.dumps(raw['label_errors'][name])}")
        if not arguments.quick:
            raw["cost"] = cost(Path(folder) / "cost")
            show(f"cost: {raw['cost']}")
    raw["drift"] = [drift_by_size(shift, draws=1 if arguments.quick else 4) for shift in SHIFTS]
    raw |= unlike_samples(sets)
    show(f"drift: {raw['drift']}; unlike: {raw['unlike']}; of depths: {raw['unlike_of_depths']}")
    params = load_params(ROOT / "params.yaml").audit
    finish(
        settings={"quick": arguments.quick, "levels": LEVELS, "audit": asdict(params)}, raw=raw, claims=claims_of(raw)
    )


def of_last_depth(name: str, data: Set) -> Set:
    vectors, labels, classes = data
    return (vectors[:, -SQUEEZENET_DIM:] if READ[name][0] == "squeezenet" else vectors), labels, classes


def embedded(labelled: Labelled) -> Set:
    """Return the vectors and labels of a set, at most MOST_SAMPLES of it, drawn at random."""
    rows = drawn_rows(len(labelled.labels))
    vectors = embedding(labelled, labelled.network.load())(rows).astype(np.float16)
    return vectors, labelled.labels[rows], labelled.classes


def drawn_rows(num: int) -> NDArray[np.intp]:
    return np.sort(np.random.default_rng(0).permutation(num)[:MOST_SAMPLES])


def embedded_texts(texts: list[str]) -> NDArray[np.float16]:
    """Return MiniLM's vectors (n, dim)."""
    from tasks.embedding.packing import TextEmbedder
    from tasks.models.encoder_files import load_encoder

    embedder = TextEmbedder(load_encoder(news.MINILM), plan(AUTO, modality="text"))
    size = embedder.plan.minibatch_size
    with one_thread_each():
        pieces = [
            embedder([embedder.transform.prepare(text) for text in texts[start : start + size]]).numpy()
            for start in range(0, len(texts), size)
        ]
    return np.concatenate(pieces).astype(np.float16)


def label_errors(data: Set, place: Path, *, draws: int) -> dict[str, Any]:
    """Return, by share of planted noise, the mean average precision of the audit and of cleanlab over the draws."""
    place.mkdir()
    vectors, truths, classes = data
    write_embeddings(place / "all.safetensors", [vectors], shape=vectors.shape, recipe="any")
    known = read_embeddings(place, ["all"], num_samples=len(truths))
    found: dict[str, Any] = {}
    for share in NOISE:
        rows = [one_draw(known, vectors, truths, classes, share=share, seed=seed) for seed in range(draws)]
        found[in_percent(share)] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return found


def one_draw(
    known: Embeddings, vectors: NDArray[np.float16], truths: NDArray[np.int64], classes: list[str], *, share: float,
    seed: int,
) -> dict[str, float]:  # fmt: skip
    from sklearn.metrics import average_precision_score

    generator = np.random.default_rng(seed)
    is_wrong = np.zeros(len(truths), bool)
    is_wrong[generator.permutation(len(truths))[: round(share * len(truths))]] = True
    moved = generator.integers(1, len(classes), len(truths))
    labels = np.where(is_wrong, (truths + moved) % len(classes), truths)
    names = [f"{number:06d}" for number in range(len(truths))]
    manifest = pd.DataFrame({"sample_id": names, "label": np.array(classes, dtype=object)[labels]})
    every = np.ones(len(truths), bool)
    start = time.perf_counter()
    near = find_neighbours(known, np.flatnonzero(every), seed=0)
    judged = judge_labels(manifest, known, "label", Classes(tuple(classes)), near, is_learned=every)
    seconds = time.perf_counter() - start
    right = judge_labels(
        manifest.assign(label=np.array(classes, dtype=object)[truths]), known, "label", Classes(tuple(classes)), near,
        is_learned=every,
    )  # fmt: skip
    assert judged is not None
    assert right is not None
    suspicion = judged[2]
    answers = np.exp(right[2].log_probabilities[np.arange(len(labels)), labels])
    return {
        "ap": float(average_precision_score(is_wrong, suspicion.score)),
        "limit": float(average_precision_score(is_wrong, 1 - answers)),
        "precision": float(is_wrong[suspicion.is_suspected].mean()),
        "recall": float(suspicion.is_suspected[is_wrong].mean()),
        "share_right": float((suspicion.log_probabilities.argmax(axis=1) == truths).mean()),
        "seconds": seconds,
    } | peer(vectors, labels, is_wrong, seed=seed)


def peer(
    vectors: NDArray[np.float16], labels: NDArray[np.int64], is_wrong: NDArray[np.bool_], *, seed: int
) -> dict[str, float]:
    """Return the results of cleanlab; none where it is not installed."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    try:
        from cleanlab.rank import get_label_quality_scores  # type: ignore[import-not-found]
    except ImportError:
        return {}
    start, scores = time.perf_counter(), []
    for head in (LogisticRegression(max_iter=200), make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probabilities = cross_val_predict(
                head, vectors.astype(np.float32), labels, method="predict_proba",
                cv=StratifiedKFold(5, shuffle=True, random_state=seed),
            )  # fmt: skip
        scores += [
            average_precision_score(is_wrong, -get_label_quality_scores(labels, probabilities, method=method))
            for method in ("self_confidence", "normalized_margin")
        ]
    return {"cleanlab_ap": float(max(scores)), "cleanlab_seconds": time.perf_counter() - start}


def cost(place: Path) -> dict[str, float]:
    """Return the seconds of the stage on 100,000 samples and 10,000 held-out ones, of 20 classes in two batches."""
    generator = np.random.default_rng(0)
    sizes = {"first": 90_000, "second": 20_000}
    for folder in ("manifests", "embeddings", "hashes"):
        (place / folder).mkdir(parents=True)
    labels = np.array([f"class {number:02d}" for number in range(20)], dtype=object)
    start = 0
    for batch, num in sizes.items():
        places = generator.integers(0, 20, num)
        vectors = spread(generator, num, DIM) + 0.15 * np.eye(DIM, dtype=np.float32)[places]
        write_embeddings(
            place / f"embeddings/{batch}.safetensors", [vectors.astype(np.float16)], shape=vectors.shape, recipe="any"
        )
        probes = Probes(
            kinds=("copied",), cosines=np.full((32, 1), 0.99, np.float32), distances=np.full((32, 1), 20, np.uint16)
        )
        bits = generator.integers(0, 256, (num, *HASHES_SHAPE), dtype=np.uint8)
        write_hashes(place / f"hashes/{batch}.safetensors", [bits], shape=bits.shape, probes=probes)
        names = [f"{number:06d}" for number in range(start, start + num)]
        split = np.where(np.arange(num) % 11 == 0, "heldout", np.where(np.arange(num) % 11 == 1, "val", "train"))
        table = {"batch": batch, "path": names, "sample_id": names, "split": split, "label": labels[places]}
        write_table(place / f"manifests/{batch}.parquet", pd.DataFrame(table))
        start += num
    (place / "batches.yaml").write_text(f"batches: [{', '.join(sizes)}]\n", "utf-8")
    write_json(place / "classes.json", {"label": labels.tolist()})
    words = [
        word
        for name in ("manifests", "embeddings", "hashes", "scratch", "out", "health")
        for word in (f"--{name}", str(place / name))
    ]
    words += ["--batches", str(place / "batches.yaml"), "--classes", str(place / "classes.json")]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tasks.audit", *words], cwd=ROOT, stderr=subprocess.PIPE, check=True)
    return {"num_samples": sum(sizes.values()), "dim": DIM, "seconds": time.perf_counter() - began}


def drift_by_size(shift: float, *, draws: int) -> dict[str, Any]:
    """Return the mean effect size of a shift by the number of samples of each side."""
    effects = {}
    for size in SIZES:
        effects_of_draws = []
        for seed in range(draws):
            generator = np.random.default_rng(seed)
            before, batch = (made_up(generator, size, shift=by) for by in (0.0, shift))
            rows = drawn(np.arange(size), seed=seed)
            drifted = drift(before[rows], batch[rows], seed=seed)
            assert drifted is not None
            effects_of_draws.append(drifted.effect)
        effects[str(size)] = float(np.mean(effects_of_draws))
    return {"shift": shift, "effects": effects, "spread": max(effects.values()) - min(effects.values())}


def made_up(generator: np.random.Generator, num: int, *, shift: float) -> NDArray[np.float32]:
    """Return vectors (num, DIM) of 40 directions of falling weight, five of them shifted, and noise."""
    directions_of = np.random.default_rng(0).standard_normal((40, DIM)) * np.arange(1, 41)[:, None] ** -0.4
    places = generator.standard_normal((num, 40))
    places[:, 3:8] += shift
    return (places @ directions_of + 0.3 * generator.standard_normal((num, DIM))).astype(np.float32)


def unlike_samples(sets: dict[str, Set]) -> dict[str, Any]:
    """Return the shares of other sets that are found, by features of the last depth, and for images by all depths."""
    last = {name: of_last_depth(name, data) for name, data in sets.items()}
    judged = [name for name in sets if name not in ONLY_OTHERS and READ[name][0] != "glyphs"]
    return {
        "unlike": {name: unlike(name, last) for name in judged},
        "unlike_of_depths": {name: unlike(name, sets) for name in judged if READ[name][0] == "squeezenet"},
    }


def unlike(name: str, sets: dict[str, Set]) -> dict[str, Any]:
    """Return by level how many held-out samples of a set, and how many of each other set, its detector finds.

    `taught` is the share of one half of the other set that a classifier finds which learned from the other half.
    """
    ours = sets[name][0]
    others = {
        other: vectors[np.random.default_rng(0).permutation(len(vectors))[:MOST_JUDGED]]  # of all its classes
        for other, (vectors, _, _) in sets.items()
        if other != name and READ[other][0] == READ[name][0]
    }
    alarms: dict[float, list[float]] = {level: [] for level in LEVELS}
    found: dict[float, dict[str, list[float]]] = {level: {other: [] for other in others} for level in LEVELS}
    taught: dict[float, dict[str, list[float]]] = {level: {other: [] for other in others} for level in LEVELS}
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(ours))
        train, val, heldout = np.split(ours[order], [round(0.65 * len(ours)), round(0.8 * len(ours))])
        known = keep(train[:MOST_REFERENCES])
        of_val, of_heldout = known.distances(val), known.distances(heldout)
        is_judged = seed < FOUND_SPLITS
        of_others = {other: known.distances(rows) for other, rows in others.items() if is_judged}
        by_taught = {other: by_classifier(train, val, rows) for other, rows in others.items() if is_judged}
        for level in LEVELS:
            limit = limit_of(of_val, level=level)
            assert limit is not None
            alarms[level].append(float((of_heldout > limit).mean()))
            for other, far in of_others.items():
                found[level][other].append(float((far > limit).mean()))
            for other, (own_scores, scores) in by_taught.items():
                own_limit = limit_of(own_scores, level=level)
                assert own_limit is not None
                taught[level][other].append(float((scores > own_limit).mean()))
    return {
        in_percent(level): {
            "false_alarms": float(np.mean(alarms[level])),
            "found": {other: float(np.mean(shares)) for other, shares in found[level].items()},
            "taught": {other: float(np.mean(shares)) for other, shares in taught[level].items()},
        }
        for level in LEVELS
    }


def by_classifier(
    train: NDArray[np.float16], val: NDArray[np.float16], others: NDArray[np.float16]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the logits (v,) of val and (m,) of half of the others that they are of the other set."""
    from sklearn.linear_model import LogisticRegression

    lessons, judged = others[::2], others[1::2]
    is_other = np.arange(len(train) + len(lessons)) >= len(train)
    head = LogisticRegression(C=100, class_weight="balanced", max_iter=1000)
    head.fit(directions(np.concatenate([train, lessons])), is_other)
    return head.decision_function(directions(val)), head.decision_function(directions(judged))


def in_percent(share: float) -> str:
    return f"{share:.0%}"


def claims_of(raw: dict[str, Any]) -> list[Claim]:
    claims = []
    for name, by_noise in raw["label_errors"].items():
        for noise, means in by_noise.items():
            key = f"{noise.replace('%', '_percent')}.{name}"
            claims.append(Claim(name=f"audit.label_error_ap.{key}", value=means["ap"], target=0.8, at_least=True))
            if "cleanlab_ap" in means:
                gain = means["ap"] - means["cleanlab_ap"]
                claims.append(
                    Claim(name=f"audit.label_error_ap_minus_cleanlab.{key}", value=gain, target=0.0, at_least=True)
                )
    if "cost" in raw:
        claims.append(Claim(name="audit.seconds_100k", value=raw["cost"]["seconds"], target=60, at_least=False))
    spreads = max(row["spread"] for row in raw["drift"])
    claims.append(Claim(name="audit.drift_effect_size_stability", value=spreads, target=0.1, at_least=False))
    for level in LEVELS:
        key = in_percent(level).replace("%", "_percent")
        for part, suffix in (("unlike", ""), ("unlike_of_depths", ".of_depths")):
            of_sets = {name: by_level[in_percent(level)] for name, by_level in raw[part].items()}
            if of_sets:
                worst = 100 * max(abs(of_set["false_alarms"] - level) for of_set in of_sets.values())
                name = f"predict.unlike_false_alarms.{key}{suffix}"
                claims.append(Claim(name=name, value=worst, target=1.0, at_least=False))
            claims += [
                Claim(name=f"predict.unlike_found.{key}.{name}.{other}{suffix}", value=share, target=0.9, at_least=True)
                for name, of_set in of_sets.items()
                for other, share in of_set["found"].items()
            ]
    return claims


if __name__ == "__main__":
    main()
