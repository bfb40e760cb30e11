"""The review page as a person uses it: by the keyboard, in Chromium."""

import threading
from contextlib import ExitStack

import pytest

from tasks.data.admission.corrections import read_corrections
from tasks.reviewing.tiles import Reason
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.several import Several
from tests.kit.browser import CONTRASTS, opened, running_chromium
from tests.kit.served import picture, review_of, served, tile

HOSTILE = "<img src=x onerror=alert(1)>"
USABLE = "() => [...document.querySelectorAll('button, select, input')].filter((one) => one.checkVisibility())"


@pytest.fixture(scope="module")
def chromium():
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def browse(chromium):
    """Return a function that serves a review and opens its page; `seen` lists complaints and foreign requests."""
    with ExitStack() as serving:

        def open_page(review, *, width=1280, height=800, scheme="light"):
            address = serving.enter_context(served(review))
            window = opened(
                chromium, f"{address}/?secret={review.secret}", is_own=lambda url: url.startswith((address, "data:")),
                width=width, height=height, scheme=scheme,
            )  # fmt: skip
            window.wait_for_selector(".tile")
            return window

        yield open_page


def rows(review):
    return [(row.action, row.target, row.label) for row in read_corrections(review.corrections)]


def current(window):
    return window.locator(".tile[aria-selected=true]")


def wait_for_rows(window, review, count):
    window.wait_for_function("num => document.getElementById('progress').textContent.startsWith(`${num} `)", arg=count)
    return rows(review)


def test_samples_are_accepted_relabelled_set_aside_and_undone_by_the_keyboard_alone(browse, tmp_path):
    review = review_of(tmp_path, [tile(number) for number in range(6)])
    window = browse(review)
    for number, key in enumerate("ats", start=1):
        window.keyboard.press(key)
        wait_for_rows(window, review, number)
    window.keyboard.press("r")
    window.keyboard.type("co")
    window.keyboard.press("Enter")
    assert wait_for_rows(window, review, 4) == [
        ("accept", "label", "cat"), ("relabel", "label", "dog"), ("set_aside", "", ""), ("relabel", "label", "cow"),
    ]  # fmt: skip
    assert current(window).get_attribute("id") == "tile-4"
    window.keyboard.press("ArrowLeft")
    window.keyboard.press("u")
    assert wait_for_rows(window, review, 3)[-1] == ("undo", "label", "cow")
    assert "set aside (Ann, " in window.locator("#tile-2 .held").inner_text()
    window.keyboard.press("n")
    assert current(window).get_attribute("id") == "tile-4"
    window.reload()
    window.wait_for_selector(".tile")
    assert "→ dog (Ann, " in window.locator("#tile-1 .held").inner_text()
    assert window.seen == []


def test_names_and_texts_of_strangers_are_shown_not_run_and_nothing_is_fetched_from_elsewhere(browse, tmp_path):
    reasons = [Reason(kind=HOSTILE, detail=HOSTILE, target="label", suggested=f"{HOSTILE}2")]
    one = tile(0, path=f"{HOSTILE}\u202e.png", labels={"label": HOSTILE}, reasons=reasons)
    review = review_of(
        tmp_path, [one], modality="text", preview=lambda sample_id, is_large: f"{HOSTILE}\nsecond line",
        targets={"label": Classes((HOSTILE, f"{HOSTILE}2"))}, who=HOSTILE,
    )  # fmt: skip
    window = browse(review)
    window.wait_for_function("() => document.querySelector('.tile .text').textContent")
    assert window.locator(".tile .text").inner_text() == f"{HOSTILE}\nsecond line"
    assert HOSTILE in window.locator(".tile .labels").inner_text()
    assert "\\u202e" in window.locator(".tile").inner_text()
    for key in (" ", "Escape", "r", "Escape", "?", "Escape", "t"):
        window.keyboard.press(key)
    wait_for_rows(window, review, 1)
    assert HOSTILE in window.locator(".tile .held").inner_text()
    assert window.seen == []


def test_of_ten_thousand_samples_only_those_in_sight_are_in_the_page_and_the_last_is_a_key_away(browse, tmp_path):
    review = review_of(tmp_path, [tile(number) for number in range(10_000)])
    window = browse(review)
    assert window.locator(".tile").count() < 100
    window.keyboard.press("End")
    window.wait_for_selector("#tile-9999")
    assert current(window).get_attribute("aria-posinset") == "10000"
    assert window.locator(".tile").count() < 100
    window.wait_for_function("() => [...document.images].every((image) => image.complete && image.naturalWidth)")
    window.locator("#list").evaluate("list => { list.scrollTop = list.scrollHeight / 2 }")
    window.wait_for_function("() => document.querySelector('.tile').getAttribute('aria-posinset') < 9000")
    assert window.seen == []


def test_pictures_that_went_out_of_sight_hold_up_no_others(browse, tmp_path):
    tiles = [tile(number) for number in range(1000)]
    slow, is_over = {one.sample_id for one in tiles[100:900]}, threading.Event()

    def preview(sample_id, is_large):
        if sample_id in slow:
            is_over.wait(60)
        return picture(sample_id, is_large)

    window = browse(review_of(tmp_path, tiles, preview=preview))
    try:
        window.locator("#list").evaluate("list => { list.scrollTop = list.scrollHeight / 2 }")
        window.wait_for_selector("#tile-500 img", state="attached")
        window.keyboard.press("End")
        window.wait_for_function("() => document.querySelector('#tile-999 img')?.naturalWidth")
    finally:
        is_over.set()


def test_kinds_are_filtered_and_twins_are_shown_side_by_side(browse, tmp_path):
    twin = Reason(kind="near_duplicate", detail="left train: it is nearly the held-out first/dog/1.png")
    tiles = [tile(0), tile(1, twin=tile(2).sample_id, twin_labels={"label": "dog"}, reasons=[twin])]
    window = browse(review_of(tmp_path, tiles))
    window.keyboard.press("]")
    window.keyboard.press("]")
    assert window.locator(".tile").count() == 1
    assert window.locator(".tile img").count() == 2
    assert window.locator(".tile .labels").inner_text() == "cat | dog"
    window.keyboard.press("a")
    window.wait_for_selector(".tile.decided")
    window.locator("#open").check()
    assert window.locator("#empty").inner_text() == "Every sample here is decided."


def test_several_labels_and_numbers_are_corrected_and_what_a_target_cannot_have_is_refused(browse, tmp_path):
    targets = {"traits": Several(("red", "round")), "angle": Number()}
    reasons = [Reason(kind="error", detail="off by 90", target="angle", suggested="")]
    review = review_of(tmp_path, [tile(0, labels={"traits": '["red"]'}, reasons=reasons), tile(1)], targets=targets)
    window = browse(review)
    assert window.locator("#tile-0 .labels").inner_text() == "red"
    window.keyboard.press("r")
    window.keyboard.type("steep")
    window.keyboard.press("Enter")
    window.wait_for_selector("#said.bad")
    assert "steep" in window.locator("#said").inner_text()
    window.keyboard.press("r")
    window.keyboard.type("12.50")
    window.keyboard.press("Enter")
    assert wait_for_rows(window, review, 1) == [("relabel", "angle", "12.5")]
    window.keyboard.press("ArrowLeft")
    window.keyboard.press("r")
    window.locator("#target").select_option("traits")
    window.get_by_label("round").check()
    window.locator("#ok").click()
    window.wait_for_function("() => document.getElementById('said').textContent.includes('red, round')")
    assert rows(review)[-1] == ("relabel", "traits", '["red","round"]')


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_a_telephone_and_a_screen_its_texts_have_contrast_and_its_parts_have_names(
    browse, tmp_path, scheme, width
):
    review = review_of(tmp_path, [tile(number) for number in range(30)])
    window = browse(review, width=width, scheme=scheme)
    window.keyboard.press("s")
    window.wait_for_selector(".tile.decided")
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = window.evaluate(CONTRASTS)
    assert min(contrasts)[0] >= 4.5, min(contrasts)
    sizes = window.evaluate(
        f"{USABLE}.map((one) => one.textContent.trim() || one.ariaLabel || one.labels[0]?.textContent)"
    )
    assert all(sizes)


def test_server_that_is_gone_and_a_page_of_an_earlier_review_are_said(browse, tmp_path):
    review = review_of(tmp_path, [tile(0)])
    window = browse(review)
    window.evaluate("document.querySelector('meta[name=token]').content = 'old'")
    window.keyboard.press("a")
    window.wait_for_selector("#said.bad")
    assert window.locator("#said").inner_text() == "the page is of an earlier review: load it again"
    assert not review.corrections.exists()
