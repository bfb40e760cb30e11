"""Mix two linear heads into one, whose logits are a mean of theirs with the weights that val suggests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.targets.classes import Classes
from tasks.targets.target import Target, Truths
from tasks.training.heads.linear import Layer64, fit_linear
from tasks.training.heads.logistic import LinearHead, all_val_logits
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import Array, Labels, Vectors

SHARES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])  # of the second head
FEW_LABELS = 20  # a class; from so many on, logistic regression is better alone
PRIOR = np.array([1, 2, 2, 2, 1])  # how likely each share is before val is seen: both heads know something


@dataclass(frozen=True, kw_only=True)
class LastFeatures:
    """The last `dim` features of vectors."""

    vectors: Vectors
    dim: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.vectors.shape[0], self.dim

    def __getitem__(self, rows: slice, /) -> NDArray[np.floating]:
        return self.vectors[rows][:, -self.dim :]


def fit_depths(
    target: Target,
    train: tuple[Vectors, Truths],
    val: tuple[Vectors, Truths],
    options: HeadOptions,
    *,
    part_dims: Sequence[int],
) -> tuple[LinearHead, float | None]:
    """Return the head on features of several depths, and how much all of them count, 0..1; None with one depth.

    It is a mean of a head on the last depth alone and of one on all depths. Near to what the network was trained for
    the last depth knows most; far from it the earlier ones do.

    Args:
        part_dims: how many features each depth has, in the order of the vectors.
    """
    whole = fit_linear(target, train, val, options, part_dims=part_dims)
    if len(part_dims) < 2:
        return whole, None
    dim = part_dims[-1]
    (vectors, truths), (val_vectors, val_truths) = train, val
    last = fit_linear(
        target, (LastFeatures(vectors=vectors, dim=dim), truths),
        (LastFeatures(vectors=val_vectors, dim=dim), val_truths), options, part_dims=[dim],
    )  # fmt: skip
    weight = np.zeros_like(whole.weight)
    weight[:, -dim:] = last.weight
    mixed, share = mix(target, (weight, last.bias), (whole.weight, whole.bias), val)
    return LinearHead(weight=mixed[0], bias=mixed[1], l2=whole.l2, val_log_loss=None), share


def fit_few(
    target: Target, train: tuple[Vectors, Truths], val: tuple[Vectors, Truths], options: HeadOptions
) -> LinearHead:
    """Return a cautious head; for classes with few labels each, its mean with a head of the classes' mean vectors.

    The logit of a class is then the product with its mean vector, scaled to length 1 (Rocchio 1971). It has no strength
    that val would have to choose.
    """
    head = fit_linear(target, train, val, options, cautious=True)
    vectors, truths = train
    if not isinstance(target, Classes) or len(truths) >= FEW_LABELS * target.num_outputs:
        return head
    every = vectors[: len(truths)].astype(np.float64)
    means = np.stack([every[truths == place].mean(axis=0) for place in range(target.num_outputs)])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(float).tiny)
    layer, _ = mix(target, (head.weight, head.bias), (means, np.zeros(len(means))), val)
    return LinearHead(weight=layer[0], bias=layer[1], l2=head.l2, val_log_loss=None)


def mix(target: Target, one: Layer64, other: Layer64, val: tuple[Vectors, Labels]) -> tuple[Layer64, float]:
    """Return the mean of two layers, each calibrated on val, and the share of the other.

    The share is its mean under the posterior: the prior favours neither, and the likelihood is that of the labels of
    val. So a few labels leave it about the middle, and many decide. Without labels it is 0.5.
    """
    vectors, truths = val
    layers = [calibrated(target, layer, all_val_logits(*layer, vectors), truths) for layer in (one, other)]
    logits = [all_val_logits(*layer, vectors) for layer in layers]
    evidence = [log_likelihood_of(target, mean(*logits, share=share), truths) for share in SHARES]
    posterior = np.exp(np.array(evidence) - max(evidence)) * PRIOR
    share = float(posterior @ SHARES / posterior.sum())
    (weight, bias), (other_weight, other_bias) = layers
    return (mean(weight, other_weight, share=share), mean(bias, other_bias, share=share)), share


def calibrated(target: Target, layer: Layer64, logits: Array, truths: Labels) -> Layer64:
    """Return a layer whose logits need no temperature."""
    temperature = target.calibrate(logits, truths)[1] if len(truths) else 1.0
    return layer[0] / temperature, layer[1] / temperature


def mean(one: Array, other: Array, *, share: float) -> Array:
    return (1 - share) * one + share * other


def log_likelihood_of(target: Target, logits: Array, truths: Labels) -> float:
    """Return the log-likelihood of truths on val under logits (n, num_outputs), calibrated."""
    if not len(truths):
        return 0.0
    known, temperature = target.calibrate(logits, truths)
    return known.log_likelihood(np.asarray(known.losses(logits, truths, temperature=temperature), np.float64))
