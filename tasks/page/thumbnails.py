"""Samples in; a small picture of each out, as a data URI made anew from its pixels: nothing else of the file is passed on."""

import base64
import io
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from tasks.data.samples.samples import decode_verified, read_verified
from tasks.images.decode import decode_image
from tasks.machine.cores import spread

QUALITY = 70  # of WebP, 0..100


def thumbnails(rows: pd.DataFrame, *, raw: Path, size: int) -> dict[str, str]:
    """By sample_id, a picture whose longer side is at most `size` px.

    Args:
        rows: batch, path, sample_id; what can be decoded.
        raw: the folder of the batches.

    Raises:
        ValueError: a sample is missing, with the command that brings its batch, or is not the one that was validated.
    """
    unique = rows.drop_duplicates("sample_id")

    def draw(batch: str, path: str, identity: str) -> str:
        place = raw / batch / path
        content = read_verified(place, identity, batch=raw / batch)
        picture = decode_verified(content, partial(decode_image, shorter_side=size), path=place)
        return data_uri(picture, size=size)

    samples = list(zip(unique["batch"], unique["path"], unique["sample_id"], strict=True))
    return dict(zip(unique["sample_id"], spread(samples, lambda sample: draw(*sample)), strict=True))


def data_uri(picture: Image.Image, *, size: int) -> str:
    """An RGB picture as WebP, no larger than it is, without metadata."""
    small = Image.frombytes("RGB", picture.size, picture.tobytes())  # what Pillow knows of the file stays behind
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
