"""Make a frozen backbone of either modality ready for one machine."""

from tasks.embedding.embedder import AUTO, Embedder, Embeds, Modality, plan
from tasks.embedding.options import DeviceOptions
from tasks.embedding.packing import TextEmbedder
from tasks.models.backbone import Backbone
from tasks.models.encoder import Encoder


def modality_of(backbone: Backbone | Encoder) -> Modality:
    """Return what the backbone reads."""
    return "text" if isinstance(backbone, Encoder) else "images"


def make_ready(backbone: Backbone | Encoder, options: DeviceOptions = AUTO) -> Embeds:
    """Return the backbone as it computes on this machine. Raises ValueError as `plan` does."""
    chosen = plan(options, modality=modality_of(backbone))
    if isinstance(backbone, Encoder):
        return TextEmbedder(backbone, chosen)
    return Embedder(backbone, chosen)
