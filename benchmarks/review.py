"""Measure whether the review page scrolls smoothly through 10,000 samples: the slowest frame, as Chromium sees it.

The page is served as `graftline review` serves it, and each thumbnail is decoded from a JPEG of 640 x 480 px when it
comes into sight. The page is scrolled at three speeds, from a row a second or so to several windows a second, in a
window of 1280 x 900 px. A frame is the time between two calls of requestAnimationFrame.

This needs Chromium: /usr/bin/chromium, or the path in the variable CHROMIUM. --quick scrolls for a third of the time.
"""

import hashlib
import io
import os
import statistics
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image

from benchmarks.kit.machine import Claim, finish, parse_arguments
from tasks.images.decode import decode_sample
from tasks.images.options import PictureSize
from tasks.images.preview import preview
from tasks.review import SMALL, listening
from tasks.reviewing.server import Review, application
from tasks.reviewing.tiles import Reason, Tile
from tasks.targets.classes import Classes

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
NUM_TILES = 10_000
NUM_PICTURES = 50  # different files
SPEEDS = (5, 40, 300)  # px a frame
NUM_FRAMES = 300  # at each speed
MOST_MILLISECONDS = 100

SCROLL = """
([step, count]) => new Promise((resolve) => {
  const list = document.getElementById("list"), frames = [];
  let before = 0;
  const next = (now) => {
    if (before) frames.push(now - before);
    before = now;
    list.scrollTop += step;
    if (frames.length < count) requestAnimationFrame(next); else resolve(frames);
  };
  list.scrollTop = 0;
  requestAnimationFrame(next);
})
"""


def main() -> None:
    arguments = parse_arguments(__doc__)
    count = NUM_FRAMES // 3 if arguments.quick else NUM_FRAMES
    raw: dict[str, Any] = {}
    claims = []
    if CHROMIUM.is_file():
        with tempfile.TemporaryDirectory() as folder:
            raw["frames"] = {str(speed): frames for speed, frames in measured(Path(folder), count).items()}
        slowest = max(frames["slowest_ms"] for frames in raw["frames"].values())
        claims = [Claim(name="review.slowest_frame_ms_at_10k", value=slowest, target=MOST_MILLISECONDS, at_least=False)]
    else:
        raw["skipped"] = f"there is no {CHROMIUM}: install Chromium, or set CHROMIUM to its path"
    settings = {"num_tiles": NUM_TILES, "speeds": SPEEDS, "num_frames": count, "quick": arguments.quick}
    finish(settings=settings, raw=raw, claims=claims)


def measured(folder: Path, count: int) -> dict[int, dict[str, float]]:
    """Return the median and the slowest frame, in ms, by the speed."""
    from playwright.sync_api import sync_playwright

    review = review_of(folder)
    with listening(None) as socket:
        port = socket.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(application(review, port=port), log_level="error", lifespan="off", access_log=False)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        with sync_playwright() as started, started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS) as browser:
            window = browser.new_page(viewport={"width": 1280, "height": 900})
            window.goto(f"http://127.0.0.1:{port}/?secret={review.secret}")
            window.wait_for_selector(".tile")
            window.wait_for_load_state("networkidle")
            frames = {speed: window.evaluate(SCROLL, [speed, count]) for speed in SPEEDS}
        server.should_exit = True
        thread.join()
    return {
        speed: {"median_ms": statistics.median(own), "slowest_ms": max(own)} for speed, own in frames.items()
    }  # fmt: skip


def review_of(folder: Path) -> Review:
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(NUM_PICTURES):
        file = io.BytesIO()
        noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        noise.resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
        contents.append(file.getvalue())
    reason = Reason(kind="label_error", detail="97 % sure", target="label", suggested="dog")
    tiles = [
        Tile(
            sample_id=hashlib.sha256(str(number).encode()).hexdigest(), batch="first", path=f"cat/{number:05d}.jpg",
            split="train", labels={"label": "cat"}, is_shown=True, reasons=[reason],
        )
        for number in range(NUM_TILES)
    ]  # fmt: skip

    def shown(sample_id: str, is_large: bool) -> str:
        content = contents[int(sample_id[:8], 16) % NUM_PICTURES]
        return preview(decode_sample(content, shorter_side=SMALL), PictureSize(picture_size=SMALL))

    return Review(
        tiles=tiles, targets={"label": Classes(("cat", "dog"))}, modality="images",
        corrections=folder / "corrections.csv", who="Ann", preview=shown,
        shown=frozenset(tile.sample_id for tile in tiles),
    )  # fmt: skip


if __name__ == "__main__":
    main()
