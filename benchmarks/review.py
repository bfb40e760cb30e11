"""Measure whether the review page scrolls smoothly through 10,000 samples: the slowest frame, and the busiest one.

The page is served as `graftline review` serves it, and each thumbnail is decoded from a JPEG of 640 x 480 px when it
comes into sight. The page is scrolled at three speeds, from a row a second or so to several windows a second, in a
window of 1280 x 900 px. A frame is the time between two calls of requestAnimationFrame.

Other work of the machine makes frames slow, too. So Chromium is traced: `busiest_ms` is the processor time that all of
its threads took within a frame, as if one core did everything one after the other, and `page_busiest_ms` that of the
thread that runs the page's script and lays it out. The server's threads are not among them.

This needs Chromium: /usr/bin/chromium, or the path in the variable CHROMIUM. --quick scrolls for a third of the time.
"""

import hashlib
import io
import json
import os
import statistics
import tempfile
import threading
from bisect import bisect
from collections import defaultdict
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
TRACED = ["-*", "toplevel", "blink.user_timing"]  # each thread's tasks, and where a frame begins
FRAME = "frame"
PAGE_THREAD = "CrRendererMain"

SCROLL = """
([step, count]) => new Promise((resolve) => {
  const list = document.getElementById("list"), frames = [];
  let before = 0;
  const next = (now) => {
    performance.mark("frame");
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
        claims = [
            Claim(
                name=f"review.{claim}_frame_ms_at_10k", value=max(frames[key] for frames in raw["frames"].values()),
                target=MOST_MILLISECONDS, at_least=False,
            )
            for claim, key in (("slowest", "slowest_ms"), ("busiest", "busiest_ms"))
        ]  # fmt: skip
    else:
        raw["skipped"] = f"there is no {CHROMIUM}: install Chromium, or set CHROMIUM to its path"
    settings = {"num_tiles": NUM_TILES, "speeds": SPEEDS, "num_frames": count, "quick": arguments.quick}
    finish(settings=settings, raw=raw, claims=claims)


def measured(folder: Path, count: int) -> dict[int, dict[str, float]]:
    """Return the median and the slowest frame by the speed, and the processor time of the busiest one, in ms."""
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
            found: dict[int, dict[str, float]] = {}
            for speed in SPEEDS:
                browser.start_tracing(page=window, categories=TRACED)
                frames = window.evaluate(SCROLL, [speed, count])
                busy = busy_frames(json.loads(browser.stop_tracing())["traceEvents"])
                found[speed] = {"median_ms": statistics.median(frames), "slowest_ms": max(frames)} | busy
        server.should_exit = True
        thread.join()
    return found


def busy_frames(events: list[dict[str, Any]]) -> dict[str, float]:
    """Return the processor time of Chromium in the median and the busiest frame, and of the page's thread, in ms.

    Args:
        events: of Chromium's trace. `tdur` is the processor time of a task in µs; `ts` and `dur` are of the clock.
    """
    names = {(event["pid"], event["tid"]): event["args"]["name"] for event in events if event["name"] == "thread_name"}
    starts = sorted(event["ts"] for event in events if event["name"] == FRAME)
    tasks: defaultdict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X" and "tdur" in event:
            tasks[event["pid"], event["tid"]].append(event)
    of_all, of_page = np.zeros(len(starts) + 1), np.zeros(len(starts) + 1)
    for thread, of_thread in tasks.items():
        until = -1
        for task in sorted(of_thread, key=lambda task: (task["ts"], -task["dur"])):
            if task["ts"] < until:
                continue  # a part of the task before it
            until = task["ts"] + task["dur"]
            frame = bisect(starts, task["ts"])
            of_all[frame] += task["tdur"] / 1000
            of_page[frame] += task["tdur"] / 1000 * (names.get(thread) == PAGE_THREAD)
    inside = slice(1, -1)  # tasks before the first frame, or after the last, belong to none
    return {
        "busy_median_ms": float(np.median(of_all[inside])), "busiest_ms": float(of_all[inside].max()),
        "page_busiest_ms": float(of_page[inside].max()),
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
