"""The one road from samples to answers: evaluate, smoke, predict, latency and the check of an export all take it.

The vector of a sample passes through float16, as the embedding store keeps it. The precision is fp32 unless somebody
chooses another, because every processor computes with it: the model that the gate judged answers on any machine. The
head computes each row by itself, so that no bit of an answer depends on the samples beside it. A head that reads words
takes them from the text itself. Where targets have trunks of their own, each trunk gives a vector of the sample.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.embedding.embedder import AUTO, Embeds
from tasks.embedding.ready import make_ready
from tasks.machine.cores import spread
from tasks.models.classifier import Classifier
from tasks.models.domains import AdaptedHeads
from tasks.models.unlike import Unlike
from tasks.targets import classes
from tasks.targets.head import NO_WORDS, Head, Layer, SparseRow
from tasks.targets.target import Target

PRECISION: Final = "fp32"
ROWS_AT_ONCE = 1024  # of vectors, by a core

TargetAnswers = dict[str, NDArray[np.float64]]  # by target, as `Target.answers` returns them


@dataclass(frozen=True, kw_only=True)
class Trunk:
    """A backbone as it computes on this machine, and its fingerprint."""

    fingerprint: str
    embedder: Embeds


class Answerer:
    """A classifier, prepared to run on this machine.

    `choices` are fields of `tasks.embedding.options.PlanOptions`. `ready` are trunks of another answerer with the same
    choices: those that the model has, too, are not made again. Raises ValueError if the model is a backbone without
    targets, or if this machine lacks a chosen device, precision or runtime.
    """

    def __init__(self, model: Classifier, *, ready: Sequence[Trunk] = (), **choices: Any) -> None:
        if not model.targets:
            raise ValueError("the bundle is a backbone, which has no targets: name the bundle of a classifier")
        self._options = replace(AUTO, **{"precision": PRECISION} | choices)
        self.trunks = self._ready(model, ready)
        self.trunk_of = model.trunk_of
        self.plan = self.trunks[0].embedder.plan
        self.transform = self.trunks[0].embedder.transform
        self.targets = model.targets
        self.adapted: dict[str, str] = {}  # by target, the domain that its head is adapted to
        self._trunks_of: dict[str, list[Trunk]] = {}  # of the domains that have statistics of their own
        self.unlike: Unlike | None = model.unlike
        self._model = model if model.domains else None  # its backbone takes memory, and these trunks have their own
        self._take_heads(model)

    def _ready(self, model: Classifier, others: Sequence[Trunk] = ()) -> list[Trunk]:
        known = {trunk.fingerprint: trunk for trunk in others}
        trunks = []
        for backbone in model.all_trunks():
            fingerprint = backbone.fingerprint()  # before the embedder casts to the precision of this machine
            trunks.append(
                known.get(fingerprint)
                or Trunk(fingerprint=fingerprint, embedder=make_ready(backbone, self._options))
            )  # fmt: skip
        return trunks

    def _take_heads(self, model: Classifier) -> None:
        self.heads = heads_of(model)
        self.vocabulary = model.words.vocabulary() if model.words else None

    @property
    def domains(self) -> AdaptedHeads | None:
        """Return the heads of the domains that the classifier is adapted to."""
        return self._model.domains if self._model else None

    def of_domain(self, domain: str) -> "Answerer":
        """Return the answerer for samples of a domain: see `Classifier.of_domain`.

        It has the same trunks, unless the domain has statistics of its own. Then trunks with these statistics come
        first, and behind them those of the targets without a head of the domain. `unlike` is None then, because the
        detector knows no vectors of such trunks.

        Raises:
            KeyError: the classifier is not adapted to the domain.
        """
        if self._model is None or self._model.domains is None:
            raise KeyError(domain)
        own, model = copy(self), self._model.of_domain(domain)
        own._take_heads(model)
        if domain in self._model.domains.statistics_of:
            if domain not in self._trunks_of:
                self._trunks_of[domain] = self._ready(model)
            own.trunks, own.trunk_of, own.unlike = self._trunks_of[domain], model.trunk_of, None
        own._model = None
        own.adapted = dict.fromkeys(self._model.domains.targets_of[domain], domain)
        return own

    @property
    def classes(self) -> dict[str, list[str]]:
        """Return the names of the classes, labels or steps of each target."""
        return {name: list(target.names) for name, target in self.targets.items()}

    @property
    def dim(self) -> int:
        """Return the length of the vectors of each trunk."""
        return self.trunks[0].embedder.dim

    def stack(self, prepared: Sequence[Any] | Tensor) -> Any:
        """Make a minibatch of prepared samples, for every trunk; to be called in the thread that decodes them."""
        return self.trunks[0].embedder.stack(list(prepared))

    def vectors(self, minibatch: Any) -> list[Tensor]:
        """Return the vectors (n, dim) float16 of a minibatch that was stacked, on the processor, one a trunk.

        n is at most the plan's minibatch size. On a GPU they are still being computed when the call returns.
        """
        return [trunk.embedder(minibatch).half().to("cpu", non_blocking=True) for trunk in self.trunks]

    def words(self, sample: Any) -> SparseRow:
        """Return the words of a decoded sample, none where the heads read none."""
        return self.vocabulary.row(sample) if self.vocabulary else NO_WORDS

    def answers(self, vectors: Sequence[NDArray[np.float16]], words: Sequence[SparseRow] = ()) -> TargetAnswers:
        """Return the calibrated answers to samples, of their vectors (n, dim) float16, a trunk, and their words (n)."""
        of_trunks = [
            answers({name: head for name, head in self.heads.items() if self.trunk_of[name] == number}, self.targets,
                    of_trunk, words)
            for number, of_trunk in enumerate(vectors)
        ]  # fmt: skip
        return {name: of_trunks[self.trunk_of[name]][name] for name in self.targets}

    def answer(self, prepared: Sequence[Any] | Tensor, words: Sequence[SparseRow] = ()) -> TargetAnswers:
        """Return the calibrated answers to any number of samples that the transform prepared, and their words.

        Images are prepared as pixels (3, size, size) uint8, so that `prepared` may be (n, 3, size, size).
        """
        size = self.plan.minibatch_size
        starts = range(0, len(prepared), size)
        parts = [self.vectors(self.stack(prepared[start : start + size])) for start in starts]
        if self.plan.device == "cuda":
            torch.cuda.synchronize()
        return self.answers([torch.cat(of_trunk).numpy() for of_trunk in zip(*parts, strict=True)], words)


def heads_of(model: Classifier) -> dict[str, Head]:
    """Return the head of each target as NumPy layers, the reverse of `Classifier.graft`."""
    heads = {}
    of_words = model.words.layers() if model.words else {}
    for head, target in zip(model.heads, model.targets, strict=True):
        layers = layers_of(head)
        heads[target] = Head(layers=layers, temperature=model.temperatures[target], words=of_words.get(target))
    return heads


def layers_of(module: nn.Module) -> tuple[Layer, ...]:
    """Return the linear layers of a module as NumPy arrays that share its memory."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return tuple((part.weight.detach().cpu().numpy(), part.bias.detach().cpu().numpy()) for part in linear)


def answers(
    heads: Mapping[str, Head],
    targets: Mapping[str, Target],
    vectors: NDArray[np.float16],
    words: Sequence[SparseRow] = (),
) -> TargetAnswers:
    """Return the calibrated answers that heads, by target, give to vectors (n, dim) float16.

    `words` (n) are the samples' own, which heads that read words need.
    """
    rows = vectors.astype(np.float32)
    return {
        name: targets[name].answers(joined(head, logits_by_row(head, rows), words), temperature=head.temperature)
        for name, head in heads.items()
    }


def answers_of_words(heads: Mapping[str, Head], words: Sequence[SparseRow]) -> TargetAnswers:
    """Return the calibrated probabilities that the words of samples alone give to heads that read words, by target."""
    return {
        target: classes.probabilities(head.words.logits(words), temperature=1.0)
        for target, head in heads.items()
        if head.words
    }


def joined(head: Head, logits: NDArray[np.float32], words: Sequence[SparseRow]) -> NDArray[np.float32]:
    """Return the logits (n, num_classes) of vectors, joined with those of the words where the head reads them."""
    return logits if head.words is None else head.words.join(logits, words)


def logits_by_row(head: Head, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, dim) -> (n, num_outputs). A product of matrices would choose its kernel, and so its last bits, by n."""
    chunks = [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
    if len(chunks) < 2:
        return _logits_of(head, rows)
    return np.concatenate(list(spread(chunks, partial(_logits_of, head))))


def _logits_of(head: Head, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([_logits(head, row) for row in rows]) if len(rows) else head.logits(rows)


def _logits(head: Head, row: NDArray[np.float32]) -> NDArray[np.float32]:
    for number, (weight, bias) in enumerate(head.layers):
        activated = np.maximum(row, 0) if number else row
        row = np.einsum("oi,i->o", weight, activated) + bias  # not BLAS: its threads share sums
    return row
