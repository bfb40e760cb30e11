"""Put into words where a training started, and how far its results have drifted from the last one from the backbone."""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.page.wording import figure

Facts = Mapping[str, Any]


def start_in_words(start: Facts | None, metrics: Mapping[str, Facts]) -> list[str]:
    """Return the sentences about the start of a training; none where every training starts from the backbone.

    Args:
        start: what finetuning.json says about it.
        metrics: the held-out measures by target and model.
    """
    if start is None:
        return []
    if "reason" in start:
        return [f"Training started from the backbone: {start['reason']}."]
    went_on = (
        f"Training went on from the model in use, {start['model_sha256'][:12]}: it learned from "
        f"{start['new']:,} new samples of train, and again from {start['replayed']:,} old ones. It is run "
        f"{start['warm_runs']:,} since the last one from the backbone."
    )
    return [went_on, *drifts(start, metrics)]


def drifts(start: Facts, metrics: Mapping[str, Facts]) -> Iterator[str]:
    """Yield a sentence for each target of which results of the last training from the backbone are known."""
    then = start["last_from_backbone"]
    for name, now in start["val"].items():
        parts = []
        if before := (then["val"] or {}).get(name):
            parts.append(f"the loss on val was {before['loss']:.4f} and is {now['loss']:.4f}")
        held_out, candidate = (then["heldout"] or {}).get(name, {}), metrics.get(name, {}).get("candidate", {})
        if "accuracy" in held_out and "accuracy" in candidate:
            parts.append(f"the held-out accuracy was {held_out['accuracy']:.1%} and is {candidate['accuracy']:.1%}")
        elif "error" in held_out and "error" in candidate:
            parts.append(
                f"the held-out error was {figure(held_out['error'])} and is {figure(candidate['error'])} "
                f"({held_out['unit']})"
            )
        if parts:
            yield f"Drift of {name} since that one, each on the samples of its day: {', and '.join(parts)}."
