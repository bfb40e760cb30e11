"""Domains of Gaussian classes for the tests of adaptation: a target may be moved, stretched, or have other shares."""

import numpy as np

from tasks.training.alignment.domains import Domains, SourceDomain, TargetDomain
from tasks.training.alignment.options import AdaptOptions

CLASSES = ["cat", "dog", "owl"]
DIM = 12


def drawn(num, *, seed, move=0.0, stretch=1.0, shares=(1 / 3, 1 / 3, 1 / 3)):
    """Return vectors (num, DIM) and labels (num,); every feature is stretched and then moved, each its own way."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((len(CLASSES), DIM))
    ways = np.random.default_rng(98).standard_normal((2, DIM))
    labels = generator.choice(len(CLASSES), num, p=shares)
    vectors = centres[labels] + 1.3 * generator.standard_normal((num, DIM))
    return (vectors * stretch ** ways[0] + move * ways[1]).astype(np.float32), labels


def source(name="photo", *, num=300, seed=0, **shift):
    cut = num * 4 // 5
    vectors, labels = drawn(num, seed=seed, **shift)
    return SourceDomain(name=name, train=(vectors[:cut], labels[:cut]), val=(vectors[cut:], labels[cut:]))


def domains(*, num=300, seed=1, sources=None, **shift):
    """Return a source and an unlabelled target, and the target's labels."""
    vectors, labels = drawn(num, seed=seed, **shift)
    target = TargetDomain.unlabelled("cartoon", vectors)
    return Domains(sources=sources or [source()], target=target, classes=CLASSES), labels


def asked(**changes):
    """Return the section `adapt` with the values of params.yaml, but for these."""
    usual = {
        "targets": [], "method": "auto", "align": "coral", "weights": "classifier", "statistics": "shared",
        "min_unlabelled": 20, "unlike": None,
    }  # fmt: skip
    return AdaptOptions(**usual | changes)


def accuracy(head, vectors, labels):
    return float((head.logits(vectors).argmax(axis=1) == labels).mean())
