"""Make the preview of an image: a thumbnail, from its pixels alone, so that nothing else of a file gets out."""

import base64
import io

from PIL import Image

from tasks.images.options import PictureSize

QUALITY = 70  # of WebP, 0..100


def is_shown(options: PictureSize) -> bool:
    """Return whether the page may show the samples themselves."""
    return True


def preview(image: Image.Image, options: PictureSize) -> str:
    """Return an RGB image as a data URI: WebP without metadata, at most `picture_size` px large.

    A smaller image keeps its size.
    """
    small = Image.frombytes("RGB", image.size, image.tobytes())  # a new image has none of the file's metadata
    small.thumbnail((options.picture_size, options.picture_size), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def preview_twins(one: Image.Image, other: Image.Image, options: PictureSize) -> tuple[str, str]:
    """Return the previews of two near-duplicates."""
    return preview(one, options), preview(other, options)
