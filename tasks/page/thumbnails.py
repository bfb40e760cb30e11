"""Thumbnails of samples as data URIs. They are made from the pixels alone, so nothing else of a file gets out."""

import base64
import io
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from tasks.data.samples.samples import decode_verified, read_verified
from tasks.images.decode import decode_sample
from tasks.machine.cores import spread

QUALITY = 70  # of WebP, 0..100


def thumbnails(rows: pd.DataFrame, *, raw: Path, size: int) -> dict[str, str]:
    """Return, by sample_id, thumbnails whose longer side is at most `size` px.

    Args:
        rows: batch, path and sample_id of samples that can be decoded
        raw: the folder of the batches

    Raises:
        ValueError: a sample is missing (the message has the command that brings its batch) or has changed since it was
            validated.
    """
    unique = rows.drop_duplicates("sample_id")
    samples = list(zip(unique["batch"], unique["path"], unique["sample_id"], strict=True))
    drawn = spread(samples, lambda sample: thumbnail(raw / sample[0], sample[1], sample[2], size=size))
    return dict(zip(unique["sample_id"], drawn, strict=True))


def thumbnail(batch: Path, path: str, sample_id: str, *, size: int) -> str:
    """Return the thumbnail of the sample at `path` in a batch. Raises ValueError as `thumbnails` does."""
    content = read_verified(batch / path, sample_id, batch=batch)
    image = decode_verified(content, partial(decode_sample, shorter_side=size), path=batch / path)
    return data_uri(image, size=size)


def data_uri(picture: Image.Image, *, size: int) -> str:
    """Return an RGB image as WebP without metadata, at most `size` px large. A smaller image keeps its size."""
    small = Image.frombytes("RGB", picture.size, picture.tobytes())  # a new image has none of the file's metadata
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
