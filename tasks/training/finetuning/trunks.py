"""Fine-tune one trunk for all targets, and one for each; the model that answers a target best on val stays.

A trunk that all targets share learns from all labels, and a sample passes through the network once. Where targets pull
it in different directions, a trunk of its own serves a target better. Val decides for each target: its own trunk, the
shared one, or the head alone on the backbone as it came. It also decides how far each trunk goes on the way from there
to its fine-tuned weights.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor

from tasks.machine.peers import ALONE, Peers
from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.models.encoder import Encoder
from tasks.targets.target import Target
from tasks.training.finetuning.do_no_harm import Verdict, beats, judge
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.path import HEAD, put, weights_at
from tasks.training.finetuning.tuning import (
    Data,
    Source,
    Tuned,
    calibrate,
    curve_table,
    fine_tune,
    summary,
    target_curves,
)
from tasks.training.finetuning.warm_start import groups_of, weights_of
from tasks.training.heads.options import HeadOptions
from tasks.training.loop.fit import Keeper

logger = logging.getLogger("graftline")

Names = tuple[str, ...]  # of the targets that a training is for
Kind = Literal["head", "shared", "own"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of the trainings.

    `chosen` has for each target of the model the training whose trunk answers it, None for the head alone. A target
    without labels on train or val is in no training, and has no verdict.
    """

    targets: Mapping[str, Target]
    tuned: dict[Names, Tuned]
    verdicts: dict[str, Verdict]
    chosen: dict[str, Names | None]

    @property
    def epoch(self) -> int:
        """Return the epoch that was kept, the latest of the chosen trainings; 0 for heads alone."""
        return max(self.tuned[names].history.kept if names else 0 for names in self.chosen.values())

    def trunks(self) -> dict[str, Kind]:
        """Return, for each target, the training whose trunk answers it."""
        return {
            name: "head" if names is None else "own" if names == (name,) else "shared"
            for name, names in self.chosen.items()
        }

    def shares(self) -> dict[str, float]:
        """Return the share of the way to its trunk that answers each target, 0 for the head alone."""
        return {name: self.verdicts[name].share if names else HEAD for name, names in self.chosen.items()}

    def facts(self) -> dict[str, Any]:
        """Return the facts for the report, as JSON. The first of several trainings gives those that have no target."""
        trainings = {names: summary(tuned) for names, tuned in self.tuned.items()}
        facts = next(iter(trainings.values()))
        verdicts = {name: verdict.facts() for name, verdict in self.verdicts.items()}
        if len(self.targets) == 1:
            return facts | {"verdict": next(iter(verdicts.values()))}
        return facts | {
            "verdicts": verdicts,
            "trunks": self.trunks(),
            "trainings": [{"targets": list(names)} | training for names, training in trainings.items()],
        }

    def curves(self) -> pd.DataFrame:
        """Return the curves of the first training; of several targets also each one's own, in the training chosen."""
        first = next(iter(self.tuned))
        table = curve_table(self.tuned[first].history)
        if len(self.targets) == 1:
            return table
        for name in self.verdicts:
            names = self.chosen[name] or next(names for names in self.tuned if name in names)
            curves = target_curves(self.tuned[names].history, names.index(name), name, self.targets[name])
            table = table.join(curves, on="epoch")
        return table


def fine_tune_trunks(
    model: Classifier,
    source: Source,
    data: Data,
    *,
    options: FinetuneOptions,
    seed: int,
    keeper_of: Callable[[Names], Keeper | None],
    build_backbone: Callable[[], Backbone | Encoder],
    in_use: Classifier | None = None,
    refit: HeadOptions | None = None,
    peers: Peers = ALONE,
) -> Outcome:
    """Train the trunks that `options.trunks` names, and give `model` for each target the parts that answer val best.

    A target keeps its head alone, and the backbone to the bit, only where a trunk harms it; else it takes the share of
    the way to that trunk which fits val best. With `auto`, where neither trunk harms it, it takes its own only where
    that `beats` the shared one.

    Args:
        keeper_of: the targets of a training -> the keeper of its state.
        build_backbone: returns a backbone like that of `model`, whose weights do not matter.
        in_use: a model of the same targets. Its trunks are trained on, each for the targets that it answers.
        refit: the options of the heads where trunks learn from pairs, see `few_labels`.
        peers: the processes that train together, see `fine_tune`.

    Raises:
        ValueError: no target has labels on both sides.
    """
    parts = {name: data.part(model.targets, [name]) for name in model.targets}
    learned = tuple(name for name, part in parts.items() if len(part.train) and len(part.val))
    if not learned:
        raise ValueError("no target has labels both on train and on val, expected at least one: land more samples")
    came = clone_of(model)
    starts: dict[Names, dict[str, Tensor]] = {}
    tuned: dict[Names, Tuned] = {}
    moved: dict[Names, dict[str, Tensor]] = {}
    for names in groups_of(in_use, learned) if in_use else trainings(learned, options.trunks):
        what = "fine-tune"
        if len(model.targets) > 1:
            trunk = f"one trunk for {', '.join(names)}" if len(names) > 1 else f"a trunk for {names[0]} alone"
            logger.info("fine-tuning %s", trunk)
            what += " all targets" if len(names) > 1 else f" {names[0]}"
        part, begin = model.part(names), None
        if in_use:
            begin = weights_of(in_use, part)
            put(part, begin)
        else:
            part.fold_temperatures()  # so that training begins at the loss of the head as it answers
        starts[names] = clone_of(model)
        if in_use:
            put(model, came)
        tuned[names] = fine_tune(
            part, source, data.part(model.targets, names), options=options, seed=seed,
            keeper=keeper_of(names), what=what, start=begin, refit=refit, peers=peers,
        )  # fmt: skip
        moved[names] = {
            name: tensor.clone()
            for name, tensor in model.state_dict().items()
            if not torch.equal(tensor, starts[names][name])
        }
        put(model, came)
    outcome = choose(model.targets, learned, tuned, significance=options.significance)
    shares = outcome.shares()
    weights: dict[Names | None, dict[str, Tensor]] = {None: came}
    judged = {}
    for name, taken in outcome.chosen.items():
        if taken:
            weights[taken] = starts[taken] | weights_at(shares[name], starts[taken], moved[taken])
            weights[taken] |= {
                f"heads.{list(model.targets).index(other)}.{part}": tensor
                for other, layer in tuned[taken].refitted.get(shares[name], {}).items()
                for part, tensor in zip(("weight", "bias"), layer, strict=True)
            }
            judged[name] = tuned[taken].judged[shares[name]][name]
    assemble(model, weights, outcome.chosen, build_backbone=build_backbone)
    calibrate(model, judged)
    return outcome


def clone_of(model: Classifier) -> dict[str, Tensor]:
    """Return a copy of the weights of a model."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def trainings(learned: Names, trunks: Literal["auto", "shared", "each"]) -> list[Names]:
    """Return the targets of each training, the shared one first."""
    shared = [learned] if trunks != "each" else []
    single = [(name,) for name in learned] if trunks != "shared" else []
    return list(dict.fromkeys([*shared, *single]))


def choose(targets: Mapping[str, Target], learned: Names, tuned: dict[Names, Tuned], *, significance: float) -> Outcome:
    """Choose a training, or none, for each target."""
    chosen: dict[str, Names | None] = dict.fromkeys(targets)
    judged = {
        names: judge(
            training.paths(), history=training.history, significance=training.harm_significance, heads=training.heads,
            **(wording(is_own=len(names) == 1) if len(targets) > 1 else {}),
        )
        for names, training in tuned.items()
    }  # fmt: skip
    verdicts = {}
    for name in learned:
        alone = (name,)
        verdict_of = {names: judged[names][name] for names in tuned if name in names}
        # where every trunk harms, the verdict is that on the first one
        better = [names for names, verdict in verdict_of.items() if verdict.is_finetuned] or list(verdict_of)
        best = better[0]
        if alone in better and alone != best:
            one, other = (tuned[names].judged[verdict_of[names].share][name] for names in (alone, best))
            best = alone if beats(one, other, significance=significance) else best
        verdicts[name] = verdict_of[best]
        if verdicts[name].is_finetuned:
            chosen[name] = best
    return Outcome(targets=targets, tuned=tuned, verdicts=verdicts, chosen=chosen)


def wording(*, is_own: bool) -> dict[str, Any]:
    """Return the words of `judge` for several targets."""
    return {"subject": "the model for {}".format, "model": "its own trunk" if is_own else "the shared trunk"}


def assemble(
    model: Classifier,
    weights: Mapping[Names | None, Mapping[str, Tensor]],
    chosen: Mapping[str, Names | None],
    *,
    build_backbone: Callable[[], Backbone | Encoder],
) -> None:
    """Give the model the chosen trunks and heads, of the weights of each training.

    Trunk 0 is the backbone as it came where a head is kept alone, else the shared trunk if there is one.
    """
    order = sorted(dict.fromkeys(chosen.values()), key=lambda names: (names is not None, -len(names or ())))
    others = [build_backbone().eval() for _ in order[1:]]
    model.plant(others, {name: order.index(names) for name, names in chosen.items()})
    for names, trunk in zip(order, model.all_trunks(), strict=True):
        put(trunk, _below("backbone.", weights[names]))
    for number, (head, names) in enumerate(zip(model.heads, chosen.values(), strict=True)):
        put(head, _below(f"heads.{number}.", weights[names]))


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
