"""The libraries that networks for images come from: torchvision is always there, timm and transformers are extras."""

from typing import Any

from tasks.machine.extras import require
from tasks.models.options import Library


def networks_of(library: Library) -> Any:
    """Return the module that builds the networks of timm or transformers. Raises MissingExtraError.

    Such a module has:
    - `build_network(architecture, config, image_size=…, is_pooled=…)`: an untrained network that maps normalised images
      (n, 3, size, size) to features (n, dim), those that it classifies by;
    - `find_pretrained(architecture, place)`: its config, its transform and the file of its weights;
    - `own_tensors(architecture, network, config, state)`: the tensors of a published file in the network's own names.
    """
    require(library)
    if library == "timm":
        from tasks.models import timm_networks

        return timm_networks
    from tasks.models import transformers_networks

    return transformers_networks
