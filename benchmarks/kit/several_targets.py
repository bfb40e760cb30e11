"""Vectors with several targets: planted ones, and pictures of the shared data, embedded by the project's own engine."""

import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.kit.labelled import SHARED, squeezenet
from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.images.decode import decode_sample
from tasks.targets.target import Target, Truths
from tasks.training.heads.folds import folds_of
from tasks.training.heads.linear import fit_linear
from tasks.training.heads.logistic import LinearHead
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.sharing import Comparison, Labelled, share

Vectors = NDArray[np.floating]
Positions = NDArray[np.intp]

NUM_PLANTED, NUM_FEATURES, NUM_DIRECTIONS, NUM_CLASSES = 3120, 96, 6, 8
GROUPS = {
    "airplane": "air or water", "ship": "air or water", "automobile": "road", "truck": "road", "cat": "pet",
    "dog": "pet", "deer": "hoofed", "horse": "hoofed", "bird": "small and wild", "frog": "small and wild",
}  # fmt: skip
SORTS = {"guitar": "thing", "house": "thing", "person": "person"}  # of PACS; the other classes are animals
VEHICLE_OR_ANIMAL = {
    name: "vehicle" if group in ("air or water", "road") else "animal" for name, group in GROUPS.items()
}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The heads alone, those after sharing, and their comparison."""

    alone: dict[str, LinearHead]
    shared: dict[str, LinearHead]
    comparisons: dict[str, Comparison]


def train(
    vectors: Vectors,
    targets: dict[str, Target],
    truths: dict[str, Truths],
    rows: dict[str, tuple[Positions, Positions]],
    options: HeadOptions,
) -> Trained:
    """Fit the head of each target as `train_head` does, of its rows of train and of val."""
    labelled, alone = {}, {}
    for name, target in targets.items():
        own, val = rows[name]
        scaled = target.standardised(truths[name][own])
        labelled[name] = Labelled(target=scaled, rows=own, truths=truths[name][own])
        alone[name] = fit_linear(scaled, (vectors[own], truths[name][own]), (vectors[val], truths[name][val]), options)
    folds = folds_of(str(number) for number in range(len(vectors)))
    shared, comparisons = share(labelled, alone, lambda some: vectors[some], folds, options)
    return Trained(alone=alone, shared=shared, comparisons=comparisons)


def accuracy(head: LinearHead, vectors: Vectors, labels: NDArray[np.int64]) -> float:
    return float(((vectors @ head.weight.T + head.bias).argmax(axis=1) == labels).mean())


def planted(generator: np.random.Generator, *, num_targets: int, related: bool) -> tuple[Vectors, list[Truths]]:
    """Return vectors (n, dim) and labels (n,) of each target, which depend on NUM_DIRECTIONS directions.

    Related targets depend on the same directions, in other ways; others on directions of their own.
    """

    def basis() -> NDArray[np.float64]:
        return np.linalg.qr(generator.normal(size=(NUM_FEATURES, NUM_DIRECTIONS)))[0]

    vectors = generator.normal(size=(NUM_PLANTED, NUM_FEATURES)).astype(np.float32)
    common = basis()
    labels = []
    for number in range(num_targets):
        directions = common if related or number == 0 else basis()
        scores = 3 * vectors @ directions @ generator.normal(size=(NUM_DIRECTIONS, NUM_CLASSES))
        labels.append((scores + generator.gumbel(size=scores.shape)).argmax(axis=1))
    return vectors, labels


def draw(
    generator: np.random.Generator, labels: NDArray[np.int64], pool: Positions, num: int
) -> tuple[Positions, Positions]:
    """Return `num` rows of the pool for train, and a quarter as many others for val; every class is in train."""
    order = generator.permutation(pool)
    firsts = np.array([order[np.flatnonzero(labels[order] == label)[0]] for label in np.unique(labels[pool])])
    others = order[~np.isin(order, firsts)]
    cut = max(num - len(firsts), 0)
    return np.sort(np.concatenate([firsts, others[:cut]])), np.sort(others[cut : cut + max(num // 4, 1)])


def pictures(tar: str, image_size: int, *, most: int, turned: bool = False) -> tuple[Vectors, list[PurePath], Any]:
    """Return vectors (n, dim), paths and, if they are turned, angles (n,) in degrees of the pictures in a tar.

    At most so many are taken, by a hash of the path, which also gives the angle, from -90 to 90 degrees.
    """
    backbone = squeezenet(image_size).load()
    pixels, paths, angles = [], [], []
    with tarfile.open(SHARED / "data" / tar) as archive:
        members = sorted((member for member in archive.getmembers() if member.isfile()), key=lambda m: chance(m.name))
        for member in sorted(members[:most], key=lambda member: member.name):
            file = archive.extractfile(member)
            assert file is not None
            picture = decode_sample(file.read(), shorter_side=2 * image_size)
            if turned:
                angles.append(180 * chance(f"angle {member.name}") - 90)
                picture = picture.rotate(angles[-1], resample=Image.Resampling.BILINEAR)
            pixels.append(backbone.transform.prepare(picture))
            paths.append(PurePath(member.name))
    embedder = Embedder(backbone, plan(replace(AUTO, device="cpu")))
    parts = torch.split(torch.stack(pixels), embedder.plan.minibatch_size)
    vectors = np.concatenate([embedder(part).float().numpy() for part in parts])
    return vectors, paths, np.array(angles)


def chance(name: str) -> float:
    """Return a number in 0..1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def indices(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the classes and the label (n,) of each name."""
    classes, labels = np.unique(names, return_inverse=True)
    return tuple(classes.tolist()), labels.astype(np.int64)
