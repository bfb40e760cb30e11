"""The model in use and the data in; whether a training goes on from it, and the samples that it learns from, out.

The cost of a warm start follows the new samples: the model learns from these, and again from a few of the old ones, so
that it forgets nothing (experience replay; Rolnick et al. 2019, "Experience Replay for Continual Learning"). Low
learning rates that warm up again and come down again suit it (Ibrahim et al. 2024, "Simple and Scalable Strategies to
Continually Pre-train Large Language Models").
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from tasks.data.samples.samples import Positions
from tasks.models.classifier import Classifier
from tasks.targets.kinds import declared_of
from tasks.targets.number import Number
from tasks.training.finetuning.options import FinetuneOptions, StartOptions
from tasks.training.loop.schedule import num_steps

RATE = 0.3  # of the learning rates of a training from the backbone
MOST_EPOCHS = 5  # each is judged on all of val, which costs more than the few steps of an epoch
LEAST_LABELS = 32  # of each target that are learned from, as far as there are so many
MOST_BATCHES = 32  # since the model in use was trained
OF_START = tuple(option.name for option in fields(StartOptions))  # params that change nothing where none is in use

Lineage = Mapping[str, Any]  # of a model: the data, the code and the settings of its training


@dataclass(frozen=True, kw_only=True)
class Start:
    """The start of a training: the model in use, or the backbone, for a `reason`.

    `new` and `replayed` are the samples of train that a training from the model in use learns from.
    """

    reason: str | None = None
    model: Classifier | None = None
    lineage: Lineage = field(default_factory=dict)
    new: Positions = field(default_factory=lambda: np.empty(0, np.intp))
    replayed: Positions = field(default_factory=lambda: np.empty(0, np.intp))

    @property
    def warm_runs(self) -> int:
        """Return how many trainings in a row, with this one, went on from a model in use."""
        return warm_runs_of(self.lineage) + 1 if self.model else 0

    def kept(self, splits: "pd.Series[str]") -> NDArray[np.bool_]:
        """Return which samples (n,) are read: all but those of train that are neither new nor replayed."""
        is_learned = np.isin(np.arange(len(splits)), np.concatenate([self.new, self.replayed]))
        return np.asarray((splits != "train") | is_learned)


def choose_start(
    in_use: tuple[Classifier, Lineage] | None,
    manifest: pd.DataFrame,
    *,
    earlier: Iterator[pd.DataFrame],
    facts: Lineage,
    grafted: Classifier,
    options: StartOptions,
) -> Start:
    """Return the start of a training.

    Args:
        in_use: the model in use when the newest batch landed, and its lineage.
        manifest: the samples that a training from the backbone learns from and chooses by.
        earlier: those of them that were there before the last batch, before the last two, and so on.
        facts: the lineage that a training from the backbone would have.
        grafted: the trained heads on the backbone.
    """
    if in_use is None:
        return Start(reason="no model in use is recorded: that happens when a batch lands after a promotion")
    model, lineage = in_use
    if reason := why_another(model, lineage, facts=facts, grafted=grafted):
        return Start(reason=reason)
    turn = Start(reason=f"it is the turn of finetune.backbone_every ({options.backbone_every})")
    if warm_runs_of(lineage) + 1 >= options.backbone_every:
        return turn
    known, num_batches = known_samples(manifest, earlier, data=lineage.get("data"))
    if known is None:
        return Start(
            reason="the samples that the model in use has learned from have changed: one has another label or side, "
            f"is like a new held-out sample, or is gone; or more than {MOST_BATCHES} batches are new"
        )
    # each batch had a run, whose candidate was not promoted
    if warm_runs_of(lineage) + num_batches >= options.backbone_every:
        return turn
    is_train, is_known = (manifest["split"] == "train").to_numpy(), manifest["sample_id"].isin(known).to_numpy()
    new, old = np.flatnonzero(is_train & ~is_known), np.flatnonzero(is_train & is_known)
    if len(new) > len(old):
        return Start(reason=f"{len(new):,} of {len(new) + len(old):,} samples of train are new to the model in use")
    order = drawn(old, manifest["sample_id"].to_numpy(), salt=f"{facts['seed']} {lineage['data']}")
    replayed = replay(order, strata(manifest, grafted), new=new, num=round(options.replay * len(new)))
    for name in grafted.targets:
        has_label = manifest[name].notna().to_numpy()
        lacking = max(LEAST_LABELS - int(has_label[[*new, *replayed]].sum()), 0)
        more = order[has_label[order] & ~np.isin(order, replayed)][:lacking]
        replayed = np.concatenate([replayed, more])
    return Start(model=model, lineage=lineage, new=new, replayed=np.sort(replayed))


def warm_runs_of(lineage: Lineage) -> int:
    return int(lineage.get("start", {}).get("warm_runs", 0))


def why_another(model: Classifier, lineage: Lineage, *, facts: Lineage, grafted: Classifier) -> str | None:
    """Return why the model in use differs from that of a training from the backbone; None if it does not."""
    if lineage.get("backbone") != facts["backbone"]:
        return "the model in use has another backbone"
    before, now = lineage.get("params", {}), facts["params"]
    changed = {name for name in {*before, *now} if before.get(name) != now.get(name)} - {*OF_START}
    if changed:
        return f"finetune.{min(changed)} has changed since the model in use was trained"
    if lineage.get("text_columns") != facts.get("text_columns"):
        return "the texts have other columns than those of the model in use"
    if declared_of(model.targets) != declared_of(grafted.targets):
        return "the model in use has other targets or classes"
    if model.hidden_features != grafted.hidden_features:
        return "the model in use has another kind of head"
    return None


def known_samples(
    manifest: pd.DataFrame, earlier: Iterable[pd.DataFrame], *, data: str | None
) -> tuple[set[str] | None, int]:
    """Return the samples that a model has learned from, and the number of newer batches.

    They are those of all batches, or of all but the last few, whose digest is `data`. None where they are not the same
    any more.
    """
    for num_batches, rows in enumerate(islice(chain([manifest], earlier), MOST_BATCHES + 1)):
        if digest_of_data(rows) == data:
            return set(rows["sample_id"]), num_batches
    return None, 0


def digest_of_data(manifest: pd.DataFrame) -> str:
    """Return the version of the data: the SHA-256 (hex) of the samples, their sides and their labels."""
    rows = pd.util.hash_pandas_object(manifest.drop(columns=["batch", "path"]), index=False)
    return hashlib.sha256(rows.sort_values().to_numpy().tobytes()).hexdigest()


def strata(manifest: pd.DataFrame, model: Classifier) -> NDArray[np.intp]:
    """Return the number of the stratum (n,) of each sample: its class of every target of classes or steps."""
    names = [name for name, target in model.targets.items() if target.kind in ("classes", "ordinal")]
    if not names:
        return np.zeros(len(manifest), np.intp)
    return np.asarray(manifest.groupby(names, dropna=False, sort=True).ngroup(), np.intp)


def drawn(rows: Positions, ids: NDArray[Any], *, salt: str) -> Positions:
    """Return samples in an order that follows from a hash of their ids and the salt alone."""
    keys = [hashlib.sha256(f"{salt} {identity}".encode()).digest() for identity in ids[rows]]
    return rows[sorted(range(len(rows)), key=keys.__getitem__)]


def replay(order: Positions, strata: NDArray[np.intp], *, new: Positions, num: int) -> Positions:
    """Return `num` of the old samples, such that new and replayed ones together are balanced as all of train is.

    So a new batch of one class does not make that class likelier. Within a stratum the first in `order` are taken.
    """
    num = min(num, len(order))
    every = np.bincount(strata[np.concatenate([new, order])])
    wanted = (every / every.sum() * (len(new) + num) - np.bincount(strata[new], minlength=len(every))).clip(min=0)
    exact = wanted * (num / wanted.sum()) if num else 0 * wanted
    quota = np.floor(exact).astype(np.intp)
    quota[np.argsort(quota - exact, kind="stable")[: num - quota.sum()]] += 1
    place = pd.Series(order).groupby(strata[order]).cumcount().to_numpy()  # within its stratum
    is_wanted = place < quota[strata[order]]
    return np.concatenate([order[is_wanted], order[~is_wanted]])[:num]


def warm_options(options: FinetuneOptions, start: Start) -> FinetuneOptions:
    """Return the options of a training that goes on from the model in use.

    The number of new samples gives the steps, and none are done without any. All blocks are trained from the first
    step on.
    """
    num_new, size = len(start.new), options.minibatch_size
    per_epoch = max((num_new + len(start.replayed)) // size, 1)
    epochs = min(max(round(num_steps(num_new) / per_epoch), 1), MOST_EPOCHS) if num_new else 0
    epochs = epochs if options.epochs is None else min(epochs, options.epochs)
    return replace(
        options, epochs=epochs, num_views=min(options.num_views, max(epochs, 1)), gradual=False,
        head_learning_rate=RATE * options.head_learning_rate,
        backbone_learning_rate=RATE * options.backbone_learning_rate,
    )  # fmt: skip


def groups_of(in_use: Classifier, learned: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the targets of each trunk of the model in use, of those that are learned."""
    numbers = sorted({in_use.trunk_of[name] for name in learned})
    return [tuple(name for name in learned if in_use.trunk_of[name] == number) for number in numbers]


def weights_of(in_use: Classifier, part: Classifier) -> dict[str, Tensor]:
    """Return the weights of a trunk of the model in use and its heads, by the names of the same classifier `part`."""
    [number] = {in_use.trunk_of[name] for name in part.targets}
    weights = {f"backbone.{name}": tensor for name, tensor in in_use.all_trunks()[number].state_dict().items()}
    heads = dict(zip(in_use.targets, in_use.heads, strict=True))
    for place, (name, target) in enumerate(part.targets.items()):
        head = dict(heads[name].state_dict())
        before = in_use.targets[name]
        if isinstance(target, Number) and isinstance(before, Number):  # outputs are standardised by the train of now
            weight, bias = list(head)[-2:]
            head[weight] = head[weight] * (before.scale / target.scale)
            head[bias] = (head[bias].double() * before.scale + before.centre - target.centre) / target.scale
        weights |= {f"heads.{place}.{key}": tensor for key, tensor in head.items()}
    return weights
