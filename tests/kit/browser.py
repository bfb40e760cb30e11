"""The system's Chromium, as tests of pages drive it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
           "--disable-sync", "--no-first-run"]  # fmt: skip

# the contrast of each text with its background by WCAG 2.2; a canvas mixes the colours that lie over each other
CONTRASTS = """
() => {
  const pixel = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = pixel.getContext("2d", { willReadFrequently: true });
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const lightness = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((value) => linear(value / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const mixed = (colours) => {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return lightness(context.getImageData(0, 0, 1, 1).data);
  };
  const contrasts = [];
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (!text || !element.checkVisibility() || element.closest("script, option, .hidden")) continue;
    const behind = [];
    for (let box = element; box; box = box.parentElement) behind.unshift(getComputedStyle(box).backgroundColor);
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const [one, other] = [mixed(["white", ...behind, ink]), mixed(["white", ...behind])];
    contrasts.push([(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), text.slice(0, 40)]);
  }
  return contrasts;
}
"""


@contextmanager
def running_chromium() -> Iterator[Any]:
    """A browser, closed when the block ends: while it is open, nothing else in this thread can run an event loop.

    The test is skipped where there is no Chromium.
    """
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no {CHROMIUM}: install Chromium, or set CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


def opened(
    browser: Any, address: str, *, is_own: Callable[[str], bool], width: int, height: int, scheme: str
) -> Any:  # fmt: skip
    """Open a page in the browser's one window, in which it takes the place of the page before, and return the window.

    A window of its own would take three processes. The window's `seen` lists requests for what is not its own, and all
    complaints.
    """
    if browser.contexts:
        window = browser.contexts[0].pages[0]
        window.goto("about:blank")  # what the page before complains of until now, it complains of itself
    else:
        window = _new_window(browser)
    window.seen, window.is_own = [], is_own
    window.set_viewport_size({"width": width, "height": height})
    window.emulate_media(media="screen", color_scheme=scheme)
    window.goto(address)
    return window


def _new_window(browser: Any) -> Any:
    window = browser.new_context().new_page()
    window.set_default_timeout(10_000)
    window.on("request", lambda event: None if window.is_own(event.url) else window.seen.append(event.url))
    window.on("console", lambda message: window.seen.append(message.text))
    window.on("pageerror", lambda error: window.seen.append(str(error)))
    window.on("dialog", lambda dialog: (window.seen.append(dialog.message), dialog.dismiss()))
    return window
