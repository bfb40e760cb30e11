"""Make a frozen backbone of either modality ready for one machine."""

from pathlib import Path

from tasks.embedding.embedder import AUTO, Embedder, Embeds, Modality, plan
from tasks.embedding.execution import choose_execution
from tasks.embedding.options import DeviceOptions, PassOptions
from tasks.embedding.packing import TextEmbedder
from tasks.models.backbone import Backbone
from tasks.models.encoder import Encoder


def modality_of(backbone: Backbone | Encoder) -> Modality:
    """Return the modality that the backbone reads."""
    return "text" if isinstance(backbone, Encoder) else "images"


def make_ready(
    backbone: Backbone | Encoder, options: DeviceOptions = AUTO, *, store: Path | None = None
) -> Embeds:  # fmt: skip
    """Return the backbone as it computes on this machine. Raises ValueError as `plan` does.

    With an embedding `store`, execution `auto` is the fastest one by a measurement, which the store keeps; without one
    it is `fused`.
    """
    chosen = plan(options, modality=modality_of(backbone))
    if isinstance(backbone, Encoder):
        return TextEmbedder(backbone, chosen)
    is_open = isinstance(options, PassOptions) and options.execution == "auto" and not chosen.quantised
    if store and is_open:
        chosen = choose_execution(backbone, chosen, store=store)
    return Embedder(backbone, chosen)
