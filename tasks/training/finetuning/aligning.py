"""The manifest and params in; the domains whose features a fine-tuning makes like those of the others, out."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tasks.data.manifest.manifest import POOL, domains_of
from tasks.data.samples.samples import Positions
from tasks.machine.names import listed, printable
from tasks.training.finetuning.options import FinetuneOptions

logger = logging.getLogger("graftline")

LEAST_SAMPLES = 20  # of a domain: fewer do not show where its features lie


def domains_to_align(manifest: pd.DataFrame, options: FinetuneOptions) -> list[str]:
    """Return the domains to align to, in alphabetical order; none where fine-tuning aligns nothing.

    Where no domain has enough samples, or no sample of another has a label, a warning reports it, and none is returned.

    Args:
        manifest: the samples of train, val and the pool.
        options: domains of `align_to` with fewer than LEAST_SAMPLES samples are left out.

    Raises:
        ValueError: no domain is named, a named domain has no samples, or mixup is on.
    """
    if options.align == "never":
        return []
    asked = f"finetune.align is {options.align}, but"
    if not options.align_to:
        raise ValueError(f"{asked} finetune.align_to names no domain: name one there, or set finetune.align to never")
    if options.mixup:
        raise ValueError(
            f"{asked} finetune.mixup is {options.mixup:g}, and features of mixed samples belong to no domain: set it "
            "to 0"
        )
    domains, is_pool = domains_of(manifest), manifest["split"] == POOL
    if options.align_to == "auto":
        shares = is_pool.groupby(domains).mean()
        names = sorted(shares.index[shares > 0.5])
    else:
        names = sorted(set(options.align_to))
        if unknown := [name for name in names if not (domains == name).any()]:
            raise ValueError(
                f"finetune.align_to names the domain {printable(unknown[0])}, of which train, val and the pool have no "
                f"sample, expected some of {listed(sorted(domains.unique()))}: correct it"
            )
    counts = {name: len(samples_of(manifest, [name])) for name in names}
    names = [name for name in names if counts[name] >= LEAST_SAMPLES]
    reason = None
    if not names:
        few = listed([f"{printable(name)} has {num}" for name, num in counts.items()])
        reason = f"expected at least {LEAST_SAMPLES} samples, {few}" if few else "no domain is mostly unlabelled"
    elif not ((manifest["split"] == "train") & ~domains.isin(names)).any():
        reason = f"train has no labelled sample outside of {listed(names)}"
    if reason:
        logger.warning("%s there is no domain to align to: %s; fine-tuning goes on without", asked, reason)
        return []
    logger.info(
        "fine-tuning aligns the features of %s (%s samples, without labels) by %s; val has few of its labels or none, "
        "so that val does not show the gain: held-out labels of the domain do, in the gate",
        listed(names), f"{len(samples_of(manifest, names)):,}", options.align,
    )  # fmt: skip
    return names


def samples_of(manifest: pd.DataFrame, names: Sequence[str]) -> Positions:
    """Return the samples of domains that an alignment learns from: those of train and of the pool."""
    is_theirs = domains_of(manifest).isin(list(names)) & manifest["split"].isin(["train", POOL])
    return np.flatnonzero(is_theirs)
