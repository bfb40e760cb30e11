"""The page as its readers see it: opened from disk by Chromium."""

import re

import pytest

from tests.kit.browser import CONTRASTS, opened, running_chromium
from tests.kit.domain_facts import domain, judged
from tests.kit.kinds import facts

HOSTILE = "<script>alert(1)</script>"

# visible elements that can be used, except those that only arrow keys reach; numbers them
USABLE = """
() => [...document.querySelectorAll("a[href], button, select, summary, canvas, [tabindex='0']")]
  .filter((element) => element.tabIndex >= 0 && element.checkVisibility())
  .map((element, number) => {
    element.dataset.number = number;
    return `${element.tagName} ${element.id || element.ariaLabel || element.textContent}`;
  })
"""


@pytest.fixture(scope="module")
def chromium():
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def browse(chromium):
    """Return a function that opens a page. Its window's `seen` lists requests for other files, and all complaints."""

    def open_page(path, *, width=1200, height=900, scheme="light"):
        address = path.as_uri()
        return opened(
            chromium, address, is_own=lambda url: url == address or url.startswith("data:"),
            width=width, height=height, scheme=scheme,
        )  # fmt: skip

    return open_page


def draw_the_map(window):
    """Scroll to the map and wait until it is drawn."""
    window.locator("#map-canvas").scroll_into_view_if_needed()
    window.wait_for_selector("#map-legend li")


def visible_pictures(window):
    return [image.get_attribute("alt") for image in window.locator("#gallery img").all() if image.is_visible()]


def test_class_with_a_name_like_a_script_is_shown_not_run_and_nothing_is_fetched(project, browse):
    other = 'dog" onmouseover="alert(2)" x="'
    row = ["a", f"{HOSTILE}.png", "", "unreadable", f"</td>{HOSTILE}"]
    slices = [["label", HOSTILE, HOSTILE, 6, 0.8, 0.6, 0.9, 6, 0.9, 1, 0]]
    written = project(names=(HOSTILE, other), was_wrong=[6], quarantine=[row], slices=slices)
    window = browse(written.draw(title=f"</title>{HOSTILE}"))
    draw_the_map(window)
    window.locator("#map-colour").select_option("class")
    window.locator("#map-class").select_option(HOSTILE)
    window.locator("#map-canvas").press("ArrowRight")
    assert HOSTILE in window.locator("#map-sample").inner_text()
    assert HOSTILE in window.locator("#map-legend").inner_text()
    window.locator("#gallery-filters [data-key=class]").select_option(HOSTILE)
    for word in window.locator(".name", has_text="alert").all():
        if word.is_visible():
            word.hover()
    for section in ("#gallery", "#quarantine", "body"):
        assert HOSTILE in window.locator(section).inner_text()
    assert window.seen == []
    assert window.locator("script").count() == 2


def test_script_that_got_into_the_page_would_not_run(project, browse):
    path = project().draw()
    path.write_text(path.read_text("utf-8").replace("<main>", f"<main>{HOSTILE}<img src=x onerror=alert(2)>"), "utf-8")
    window = browse(path)
    window.wait_for_timeout(200)
    assert not {"1", "2"} & set(window.seen)
    assert sum("Content Security Policy" in message for message in window.seen) >= 2


def test_gallery_is_filtered_by_class_batch_and_kind(project, browse):
    names = ("cat", "dog", "eel")
    window = browse(project(names=names, wrong=[0, 1, 6, 8], was_wrong=[0, 6]).draw())
    assert set(visible_pictures(window)[:2]) == {"dog/1.png", "eel/8.png"}
    assert set(visible_pictures(window)[2:]) == {"cat/0.png", "cat/6.png"}
    kind, name, batch = (window.locator(f"#gallery-filters [data-key={key}]") for key in ("kind", "class", "batch"))
    kind.select_option("negative flip")
    assert set(visible_pictures(window)) == {"dog/1.png", "eel/8.png"}
    batch.select_option("b")
    assert visible_pictures(window) == ["eel/8.png"]
    assert window.locator("#gallery-count").inner_text() == "1 of 4 images"
    kind.select_option("all")
    batch.select_option("all")
    name.select_option("dog")  # the label of one, the answer for two
    assert set(visible_pictures(window)) == {"cat/0.png", "dog/1.png", "cat/6.png"}
    assert window.seen == []


def test_gallery_shows_more_on_demand(project, browse):
    window = browse(project(num_samples=40, wrong=range(30)).draw())
    assert len(visible_pictures(window)) == 12
    window.locator("#gallery-more").click()
    assert len(visible_pictures(window)) == 30
    assert not window.locator("#gallery-more").is_visible()


def test_quarantine_is_filtered_by_reason(project, quarantined, browse):
    rows = [quarantined("cat/twice.png", "exact_duplicate"), ["b", "cat/none.png", "", "empty_file", "no bytes"]]
    window = browse(project(quarantine=rows).draw())
    window.locator("#quarantine-filters [data-key=reason]").select_option("empty_file")
    shown = window.locator("#quarantine tbody tr:visible")
    assert shown.count() == 1
    assert "b/cat/none.png" in shown.inner_text()
    assert "no image" in shown.inner_text()


def test_pointing_at_the_map_shows_the_sample(project, browse):
    written = project(num_samples=2, wrong=[1], was_wrong=[], spread=0.0)  # both samples are in the middle
    window = browse(written.draw())
    draw_the_map(window)
    window.locator("#map-class").select_option("dog")
    window.locator("#map-canvas").hover()
    window.wait_for_selector("#map-sample img")
    text = window.locator("#map-sample").inner_text()
    for part in ("dog", "cat, 75 % sure", "model in use", "b", "dog/1.png"):
        assert part in text
    width = "async (image) => { await image.decode(); return image.naturalWidth; }"
    assert window.locator("#map-sample img").evaluate(width) == 16


def test_pointing_at_a_right_sample_shows_its_picture_too(project, browse):
    window = browse(project(num_samples=2, wrong=[], spread=0.0).draw())
    draw_the_map(window)
    window.locator("#map-canvas").hover()
    window.wait_for_selector("#map-sample img")
    assert window.locator("#map-legend").inner_text().split("\n") == ["cat (1)", "dog (1)"]


def test_first_screen_has_the_verdict_the_worst_errors_the_confusion_and_the_loss(project, browse):
    written = project(names=[str(digit) for digit in range(10)], num_samples=200, wrong=range(30), was_wrong=[30, 40])
    window = browse(written.draw(), width=1280, height=720)
    assert window.locator(".chart").first.get_attribute("aria-label").startswith("Loss")
    for selector in ("#verdict", ".tiles", "#gallery li >> nth=3", ".matrix", ".chart >> nth=0"):
        box = window.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 720, selector
        assert box["x"] + box["width"] <= 1280, selector


def test_printed_page_has_all_that_is_folded_or_filtered_away_on_the_screen(project, browse, quarantined):
    rows = [quarantined("cat/twice.png", "exact_duplicate"), ["b", "cat/none.png", "", "empty_file", "no bytes"]]
    window = browse(project(num_samples=40, wrong=range(30), quarantine=rows).draw(), scheme="dark")
    window.locator("#quarantine-filters [data-key=reason]").select_option("empty_file")
    assert window.locator("#quarantine tbody tr:visible").count() == 1
    folded = window.locator("details:not([open])")
    assert folded.count() >= 1
    window.emulate_media(media="print", color_scheme="dark")
    window.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert folded.count() == 0
    assert len(visible_pictures(window)) == 30
    assert window.locator("#quarantine tbody tr:visible").count() == 2
    assert window.evaluate("getComputedStyle(document.body).color") == "rgb(29, 33, 38)"  # dark ink, on white paper
    is_cut = "(area) => getComputedStyle(area).overflow !== 'visible'"
    assert [area.get_attribute("aria-label") for area in window.locator(".scroll").all() if area.evaluate(is_cut)] == []
    window.evaluate("dispatchEvent(new Event('afterprint'))")
    assert folded.count() >= 1


def test_number_stays_after_a_class_that_is_written_from_right_to_left(project, browse):
    hebrew = "\u05d7\u05ea\u05d5\u05dc"
    window = browse(project(names=(hebrew, "dog"), wrong=[1]).draw())
    draw_the_map(window)
    window.locator("#gallery button[data-row]").first.click()
    places = (
        window.locator("#map-sample dd")
        .nth(1)
        .evaluate("""(value) => {
      const end = document.createRange();
      end.selectNodeContents(value.lastChild);
      return [value.querySelector("bdi").getBoundingClientRect().right, end.getBoundingClientRect().left];
    }""")
    )
    assert window.locator("#map-sample dd").nth(1).inner_text() == f"{hebrew}, 75 % sure"
    assert places[0] <= places[1]


def test_arrow_keys_move_over_the_map_and_its_legend_counts_the_filtered_samples(project, browse):
    window = browse(project(wrong=[1, 6], was_wrong=[6, 7]).draw())
    draw_the_map(window)
    window.locator("#map-colour").select_option("outcome")
    legend = window.locator("#map-legend")
    assert "wrong, but right in the model in use (1)" in legend.inner_text()
    paths = set()
    window.locator("#map-canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowUp"):
        window.keyboard.press(key)
        paths.add(window.locator("#map-sample dd").last.inner_text())
    assert len(paths) >= 3
    window.locator("#map-outcome").select_option("wrong")
    assert "right (" not in legend.inner_text().replace("wrong, but right in the model in use (", "")


def test_keyboard_reaches_everything(project, quarantined, browse):
    written = project(wrong=[1, 6, 7], was_wrong=[6], quarantine=[quarantined("cat/twice.png", "exact_duplicate")])
    window = browse(written.draw())
    draw_the_map(window)
    window.evaluate("scrollTo(0, 0)")
    usable = window.evaluate(USABLE)
    assert len(usable) > 25
    reached = set()
    for _ in range(len(usable) + 10):
        window.keyboard.press("Tab")
        reached.add(window.evaluate("document.activeElement.dataset.number"))
    assert [name for number, name in enumerate(usable) if str(number) not in reached] == []


def test_arrow_keys_move_from_image_to_image_and_enter_shows_one_on_the_map(project, browse):
    window = browse(project(wrong=[1, 6, 7]).draw())
    window.locator("#gallery button").first.focus()
    window.keyboard.press("ArrowRight")
    focused = window.evaluate("document.activeElement.querySelector('img').alt")
    assert focused == visible_pictures(window)[1]
    window.keyboard.press("Enter")
    window.wait_for_selector("#map-sample dd")
    assert focused in window.locator("#map-sample").inner_text()
    assert window.evaluate("document.activeElement.id") == "map-canvas"


def test_confusion_of_many_classes_can_be_read_cell_by_cell(project, browse):
    names = [f"class {number:03d}" for number in range(120)]
    window = browse(project(names=names, num_samples=240, wrong=[5, 125]).draw())
    matrix = window.locator("canvas[data-confusion]")
    matrix.scroll_into_view_if_needed()
    window.wait_for_selector("canvas[data-confusion]:not([width='10'])")
    matrix.focus()
    for key in ["ArrowDown"] * 6 + ["ArrowRight"] * 6:
        window.keyboard.press(key)
    assert window.locator("#cell-0").inner_text() == "class 005 taken for class 006: 2 of 2"
    is_drawn = "(area) => area.getContext('2d').getImageData(0, 0, area.width, area.height).data.some((value) => value)"
    assert matrix.evaluate(is_drawn)


@pytest.mark.parametrize("width", [320, 375, 768])
def test_page_does_not_scroll_sideways_on_a_phone(project, browse, quarantined, width):
    names = ("a" * 120, "Donaudampfschifffahrtsgesellschaftskapitän")
    written = project(names=names, was_wrong=[6], quarantine=[quarantined(f"{'p' * 120}.png", "exact_duplicate")])
    window = browse(written.draw(title="t" * 200), width=width, height=812)
    draw_the_map(window)
    window.locator("#map-canvas").press("ArrowRight")
    for details in window.locator("details").all():
        details.evaluate("(element) => { element.open = true; }")
    assert window.evaluate("document.documentElement.scrollWidth") <= width


def test_tables_fit_a_phone_and_stay_tables_to_a_screen_reader(project, browse):
    window = browse(project(names=("Donaudampfschiff", "dog"), was_wrong=[6]).draw(), width=375, height=812)
    for details in window.locator("details").all():
        details.evaluate("(element) => { element.open = true; }")
    for region in window.locator(".scroll").all():
        assert region.evaluate("(area) => area.scrollWidth <= area.clientWidth"), region.get_attribute("aria-label")
    nodes = window.context.new_cdp_session(window).send("Accessibility.getFullAXTree")["nodes"]
    names = {node["role"]["value"]: set() for node in nodes if not node["ignored"]}
    for node in nodes:
        if not node["ignored"]:
            names[node["role"]["value"]].add(node["name"]["value"])
    assert {"Outcome", "Could have detected", "In use", "Quarantined"} <= names["columnheader"]
    assert {"label recall of Donaudampfschiff", "a", "Candidate"} <= names["rowheader"]
    rule = window.get_by_role("rowheader", name="label recall of Donaudampfschiff")
    lines_of_last_word = """(header) => {
      const range = document.createRange();
      range.setStart(header.firstChild, header.textContent.lastIndexOf(" ") + 1);
      range.setEnd(header.firstChild, header.textContent.length);
      return range.getClientRects().length;
    }"""
    assert rule.evaluate(lines_of_last_word) == 1
    assert window.get_by_role("cell", name="✓ pass").bounding_box()["x"] < 375


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(project, browse, quarantined, scheme):
    written = project(
        names=("cat", "dog", "eel"), verdict="rejected", wrong=[0, 1, 6], was_wrong=[6, 7],
        quarantine=[quarantined("cat/twice.png", "exact_duplicate"), ["b", "x.png", "", "empty_file", "no bytes"]],
    )  # fmt: skip
    window = browse(written.draw(), scheme=scheme)
    draw_the_map(window)
    window.locator("#map-canvas").press("ArrowRight")
    contrasts = window.evaluate(CONTRASTS)
    assert len(contrasts) > 150
    assert [(contrast, text) for contrast, text in contrasts if contrast < 4.5] == []


def test_map_is_drawn_in_the_colours_of_the_scheme(project, browse):
    path = project(num_samples=40, wrong=range(10)).draw()
    mean_lightness = """(area) => {
      const { data } = area.getContext('2d').getImageData(0, 0, area.width, area.height);
      const solid = [];
      for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] > 200) solid.push(data[at] + data[at + 1] + data[at + 2]);
      }
      return solid.reduce((sum, value) => sum + value, 0) / solid.length;
    }"""
    lightness = {}
    for scheme in ("light", "dark"):
        window = browse(path, scheme=scheme)
        draw_the_map(window)
        window.locator("#map-colour").select_option("outcome")
        window.locator("#map-outcome").select_option("wrong")
        lightness[scheme] = window.locator("#map-canvas").evaluate(mean_lightness)
    window.emulate_media(media="print", color_scheme="dark")
    window.wait_for_timeout(100)
    printed = window.locator("#map-canvas").evaluate(mean_lightness)
    assert lightness["dark"] > lightness["light"] > 0
    assert printed == pytest.approx(lightness["light"], rel=0.05)


def test_map_with_too_many_samples_shows_some_at_random_and_says_so(project, browse):
    written = project(num_samples=60, wrong=range(0, 60, 3))
    window = browse(written.draw(max_points=20))
    draw_the_map(window)
    counts = re.findall(r"\((\d+)\)", window.locator("#map-legend").inner_text())
    assert sum(map(int, counts)) == 20
    assert "20 of 60 samples, chosen at random" in window.locator("section", has=window.locator("#map")).inner_text()


HEBREW = "\u05e9\u05dc\u05d5\u05dd"
HOSTILE_TEXTS = [
    HOSTILE,
    "</textarea></blockquote></script><script>alert(2)</script><img src=x onerror=alert(3)>",
    "{{ 7 * 7 }} {% raw %} {# gone #} ${1}",
    f"\u202e{HEBREW} \u2066abc\x1b[31m",
    "x" * 10_000,
    "e" + "\u0301" * 10_000,
    "<!-- " + "\u2028" * 50,
    "javascript:alert(4) &lt;script&gt; \0",
]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_text_from_a_stranger_is_shown_and_does_nothing(project, browse, width, scheme):
    leaks = [(number, number + 1) for number in range(0, len(HOSTILE_TEXTS), 2)]
    written = project(
        num_samples=16, wrong=range(8), texts=HOSTILE_TEXTS, leaks=leaks, audit={"num_leaks": 4, "num_leaked": 4}
    )
    window = browse(written.draw(show_text=True, mask_digits=False, max_examples=16), width=width, scheme=scheme)
    draw_the_map(window)
    for details in window.locator("details").all():
        details.evaluate("(element) => { element.open = true; }")
    shown = window.locator("#gallery blockquote").all_text_contents()
    for part in (HOSTILE, "</textarea></blockquote></script>", "{{ 7 * 7 }} {% raw %} {# gone #} ${1}"):
        assert any(text.startswith(part) for text in shown)
    assert any(f"⟨U+202E⟩{HEBREW} ⟨U+2066⟩abc␛[31m" in text for text in shown)
    assert max(map(len, shown)) <= 301 * 8
    window.locator("#gallery button[data-row]").first.click()
    window.wait_for_selector("#map-sample blockquote")
    assert (
        window.locator("#map-sample blockquote").inner_text()
        == window.locator("#gallery blockquote").first.inner_text()
    )
    assert window.locator("blockquote *:not(mark)").count() == 0
    assert window.locator("script").count() == 2
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    assert window.seen == []


def test_answer_stays_after_a_text_that_is_written_from_right_to_left(project, browse):
    window = browse(project(texts=[f"{HEBREW} " * 3], wrong=[1]).draw(show_text=True))
    quote = window.locator("#gallery blockquote").first
    assert quote.evaluate("(element) => getComputedStyle(element).unicodeBidi") == "isolate"
    assert quote.evaluate("(element) => getComputedStyle(element).direction") == "rtl"
    assert window.locator("#gallery li p").first.inner_text() == "dog taken for cat 75 % sure"
    starts = "(element) => element.getBoundingClientRect().left"
    answer = window.locator("#gallery li p b").first
    assert answer.evaluate(starts) == pytest.approx(window.locator("#gallery li").first.evaluate(starts), abs=1)


@pytest.mark.parametrize("is_shown", [True, False])
def test_texts_can_be_read_and_reached_as_images_can(project, browse, is_shown):
    written = project(wrong=[1, 6], texts=["a cat", "one dog"], leaks=[(2, 1)], audit={"num_leaks": 1, "num_leaked": 1})
    for scheme in ("light", "dark"):
        window = browse(written.draw(show_text=is_shown), scheme=scheme)
        draw_the_map(window)
        for details in window.locator("details").all():
            details.evaluate("(element) => { element.open = true; }")
        assert [contrast for contrast in window.evaluate(CONTRASTS) if contrast[0] < 4.5] == []
    window.locator("#gallery button").first.focus()
    window.keyboard.press("ArrowRight")
    window.keyboard.press("Enter")
    window.wait_for_selector("#map-sample dd")
    assert ("dog" in window.locator("#map-sample").inner_text()) or not is_shown
    assert window.locator("#map-sample blockquote").count() == is_shown
    assert window.locator("#gallery-count").inner_text() == "2 of 2 texts"


ALL_KINDS = {"shape": "classes", "parts": "several", "quality": "ordinal", "angle": "number"}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_targets_of_every_kind_can_be_read_and_fit_the_screen(kinds, browse, width, scheme):
    row = ["a", "cat/0.png", "0" * 64, "angle", "north", "no_number", "'north' is no number"]
    window = browse(kinds(**ALL_KINDS, labels=[row]).draw(), width=width, height=812, scheme=scheme)
    draw_the_map(window)
    for details in window.locator("details").all():
        details.evaluate("(element) => { element.open = true; }")
    contrasts = window.evaluate(CONTRASTS)
    assert len(contrasts) > 300
    assert [(contrast, text) for contrast, text in contrasts if contrast < 4.5] == []
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    for region in window.locator(".scroll").all() if width == 375 else []:
        assert region.evaluate("(area) => area.scrollWidth <= area.clientWidth"), region.get_attribute("aria-label")
    nodes = window.context.new_cdp_session(window).send("Accessibility.getFullAXTree")["nodes"]
    pictures = [node["name"]["value"] for node in nodes if not node["ignored"] and node["role"]["value"] == "image"]
    assert {"Answers of angle against the truth; the table below has them in groups"} <= set(pictures)
    assert window.seen == []


def test_map_shows_each_target_in_the_way_of_its_kind(kinds, browse):
    window = browse(kinds(**ALL_KINDS).draw())
    draw_the_map(window)
    colours, legend, sample = (window.locator(f"#map-{name}") for name in ("colour", "legend", "sample"))
    assert colours.locator("option:checked").inner_text() == "range"
    assert len(legend.inner_text().split("\n")) == 8
    window.locator("#map-canvas").press("ArrowRight")
    assert re.search(r"candidate\n\n?−?[\d.]+ degrees", sample.inner_text())
    window.locator("#map-target").select_option("parts")
    assert colours.locator("option:checked").inner_text() == "outcome"
    assert not window.locator("#map-class").is_visible()
    assert "right, but wrong in the model in use" in legend.inner_text()
    window.locator("#map-target").select_option("quality")
    colours.select_option("step")
    assert [line.partition(" (")[0] for line in legend.inner_text().split("\n")] == ["poor", "fair", "good", "perfect"]
    assert window.seen == []


def test_hostile_names_and_units_of_every_kind_do_nothing(kinds, browse):
    names = [HOSTILE, 'x" onmouseover="alert(2)', "</svg>", "none"]
    targets = {f"number {HOSTILE}": "number", "parts": "several", "steps": "ordinal"}
    known = {name: facts(kind, names=names, unit=f"</text>{HOSTILE}") for name, kind in targets.items()}
    window = browse(kinds(**known).draw())
    draw_the_map(window)
    for place in range(3):
        window.locator("#map-target").select_option(index=place)
        window.locator("#map-canvas").press("ArrowRight")
        if place != 1:  # several labels have no colours of their own
            window.locator("#map-colour").select_option("class")
            assert HOSTILE in window.locator("#map-legend").inner_text()
    for word in window.locator(".name, .multiples p", has_text="alert").all()[:20]:
        if word.is_visible():
            word.hover()
    assert window.locator("script").count() == 2
    assert window.seen == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_domains_with_names_from_a_stranger_can_be_read_and_fit_the_screen(project, browse, width, scheme):
    names = ["n" * 200, HEBREW * 20, HOSTILE, 'x" onmouseover="alert(2)', *(f"domain {number}" for number in range(8))]
    classes = [*(f"class {number}" for number in range(17)), HOSTILE, HEBREW, "Donaudampfschifffahrtsgesellschaft"]
    known = {"classes": classes, "sources": dict.fromkeys(names, 100), "absent_classes": {names[0]: classes}}
    brier = {"adapted": 0.41, "informed": 0.33}
    written = project(
        num_samples=24,
        domains={name: domain(**known, labels="informed", num_labels=9, brier=brier) for name in names},
        unlike=[(name, side, number, 0.5) for name in names for side in ("target", "source") for number in range(12)],
        judged={names[0]: judged(), names[2]: judged()},
    )
    window = browse(written.draw(max_pictures=240), width=width, height=812, scheme=scheme)
    for details in window.locator("details").all():
        details.evaluate("(element) => { element.open = true; }")
    assert [(contrast, text) for contrast, text in window.evaluate(CONTRASTS) if contrast < 4.5] == []
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    for region in window.locator(".domain .scroll").all() if width == 375 else []:
        assert region.evaluate("(area) => area.scrollWidth <= area.clientWidth"), region.get_attribute("aria-label")
    assert window.locator(".domain img").count() == 240
    for name in (names[1], HOSTILE):
        assert name in window.locator(".domain summary", has_text=name).first.inner_text()
    assert window.locator("script").count() == 2
    assert window.seen == []
