"""A review page that is served to the tests from a thread of theirs."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from tasks.images.options import PictureSize
from tasks.images.preview import preview
from tasks.review import listening
from tasks.reviewing.server import Review, application
from tasks.reviewing.tiles import Reason, Tile
from tasks.targets.classes import Classes


def tile(number: int, **changes: Any) -> Tile:
    """A sample that may be wrongly labelled."""
    reason = Reason(kind="label_error", detail="97 % sure", target="label", suggested="dog")
    facts = {
        "sample_id": hashlib.sha256(str(number).encode()).hexdigest(),
        "batch": "first", "path": f"cat/{number:05d}.png",
        "split": "train", "labels": {"label": "cat"}, "is_shown": True, "reasons": [reason],
    }  # fmt: skip
    return Tile(**facts | changes)


def picture(sample_id: str, is_large: bool) -> str:
    """A little picture that differs by sample."""
    noise = np.random.default_rng(int(sample_id[:8], 16)).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    side = 512 if is_large else 224
    enlarged = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
    return preview(enlarged, PictureSize(picture_size=side))


def review_of(folder: Path, tiles: list[Tile], **changes: Any) -> Review:
    facts = {
        "tiles": tiles, "targets": {"label": Classes(("cat", "dog", "cow"))}, "modality": "images",
        "corrections": folder / "corrections.csv", "who": "Ann", "preview": picture,
        "shown": frozenset(each for one in tiles for each in (one.sample_id, one.twin) if each),
    }  # fmt: skip
    return Review(**facts | changes)


@contextmanager
def served(review: Review) -> Iterator[str]:
    """The address of a review, without its secret, while the block runs."""
    with listening(None) as socket:
        port = socket.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(application(review, port=port), log_level="error", lifespan="off", access_log=False)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(10)
