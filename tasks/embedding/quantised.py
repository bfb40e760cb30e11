"""Compute a backbone in 8 bits (int8), from an ONNX file that `python -m tasks.quantise` wrote of this backbone.

The file holds weights of 8 bits with a scale for each output channel, and the ranges of activations, which are those of
samples of train and never change (static quantisation, Krishnamoorthi 2018).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tasks.embedding.runtimes import Network, onnx_network

PIN = "@sha256:"
BACKBONE = "graftline.backbone"  # the entry of the file's metadata that has the fingerprint of its backbone
MOST_BYTES = 2**31  # the limit of an ONNX file


def digest_of(place: str) -> str:
    """Return the SHA-256 (hex) in `FILE@sha256:…`. Raises ValueError where there is none."""
    _, pin, digest = place.rpartition(PIN)
    if not pin or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError(
            f"embed.quantised is {place[:200]}, expected FILE{PIN} and 64 hexadecimal digits, as "
            "`python -m tasks.quantise` prints it"
        )
    return digest


def quantised_network(place: str, *, runtime: str, backbone: str, shape: Sequence[int]) -> Network:
    """Return the network in `FILE@sha256:…`, which maps normalised images (n, 3, size, size) to features (n, dim).

    Args:
        runtime: the one that computes it.
        backbone: the fingerprint of the backbone whose features it should give.
        shape: of the images.

    Raises:
        ValueError: the file is missing or another one than was pinned, or was made of another backbone or for other
            minibatches.
    """
    import onnx

    digest, path = digest_of(place), Path(place.rpartition(PIN)[0])
    again = "run `python -m tasks.quantise` again"
    if not path.is_file():
        raise ValueError(f"embed.quantised: {path} is missing: put it there, or {again}")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"embed.quantised: {path} has more than {MOST_BYTES:,} bytes: {again}")
    content = path.read_bytes()
    if (actual := hashlib.sha256(content).hexdigest()) != digest:
        raise ValueError(f"embed.quantised: {path} has SHA-256 {actual}, expected {digest}: get that file, or {again}")
    model = onnx.load_from_string(content)
    expected = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    if {entry.key: entry.value for entry in model.metadata_props}.get(BACKBONE) != backbone:
        raise ValueError(f"embed.quantised: {path} was made of another backbone, or of other settings of it: {again}")
    size = expected[0]
    if not size or shape[0] % size or list(shape[1:]) != expected[1:]:
        raise ValueError(
            f"embed.quantised: {path} is for images of {expected}, and a minibatch is {list(shape)}: set "
            f"embed.minibatch_size to a multiple of {size}, or {again}"
        )
    return onnx_network(runtime, content, precision="int8", size=size)
