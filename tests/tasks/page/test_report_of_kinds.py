"""The page of a project whose targets are numbers, steps of a scale, or several labels at once."""

import json
import re

import pytest

from tasks.machine.files import read_json, write_json
from tests.kit.kinds import facts
from tests.tasks.page.test_report import HOSTILE, Tags, words


@pytest.fixture
def read(kinds):
    """Return a function that writes a project with these targets and returns its page as text."""
    return lambda **arguments: kinds(**arguments).draw().read_text("utf-8")


def section(html, title):
    """Return the words of the section with this heading."""
    parts = html.split("<section")
    [own] = [part for part in parts if words(f"<section{part}").startswith(title)]
    return words(f"<section{own}")


def test_number_is_shown_with_its_unit_and_the_coverage_beside_the_level(read):
    text = words(read(angle="number"))
    assert re.search(r"mean absolute error [\d.]+ degrees [\d.]+ to [\d.]+ against the model in use −[\d.]+ deg", text)
    assert re.search(r"The answers are [\d.]+ degrees off on average; R² is 0\.9\d+\.", text)
    assert re.search(r"made to hold 90 % of the truths; it holds \d\d\.\d %\.", text)
    assert "An answer counts as right if it is at most 5 degrees off" in text
    assert "Mean absolute error, degrees lower is better; −" in text
    assert "Coverage of the interval nearer to 0.9 is better; +" in text
    assert re.search(r"the mean error changes by −[\d.]+ degrees\. The gate's test that it got worse has the p-v", text)


def test_tiny_numbers_without_a_unit_are_not_shown_as_zero(kinds):
    project = kinds(angle=facts("number", unit=""))
    file = project.folder / "evaluation/metrics.json"
    metrics = json.loads(file.read_text("utf-8"))
    for model in ("candidate", "baseline", "head"):
        metrics["angle"][model] |= {"mean_absolute_error": 5.18e-31, "width": 2e-30}
        metrics["angle"][model]["intervals"] |= {"mean_absolute_error": [4e-31, 6e-31], "width": [2e-30, 2e-30]}
    file.write_text(json.dumps(metrics), "utf-8")
    text = words(project.draw().read_text("utf-8"))
    assert "Candidate 5.18e-31 4e-31 to 6e-31" in text
    assert "Candidate 2e-30 Model in use 2e-30" in text


def test_scatter_and_histogram_are_in_the_page_as_tables_too(read):
    text = section(read(angle="number", num_samples=50), "Answer and truth")
    _, _, groups = text.partition("In the interval ")
    rows = re.findall(r"(−?[\d.]+) to (−?[\d.]+) (\d+) −?[\d.]+ [\d.]+ [\d.]+ %", groups)
    lows = [float(low.replace("−", "-")) for low, _, _ in rows]
    assert [count for _, _, count in rows] == ["5"] * 10
    assert lows == sorted(lows)
    assert "Share of samples At most 5 % −" in text


def test_largest_errors_of_a_number_are_shown_though_they_are_within_the_tolerance(read):
    generous = facts("number") | {"tolerance": 1000.0}
    text = section(read(angle=generous, models=("candidate", "head")), "Worst errors")
    errors = [float(value) for value in re.findall(r"([\d.]+) degrees off", text)]
    assert len(errors) == 40
    assert errors == sorted(errors, reverse=True)
    assert re.search(r"−?[\d.]+ degrees taken for −?[\d.]+ degrees", text)
    assert "40 of 40 answers that are off, the largest errors of each target first." in text


def test_labels_are_in_a_table_the_worst_first_and_those_without_samples_last(read):
    text = section(read(parts="several"), "Labels")
    assert re.search(r"Threshold is round \d+ 0\.650 0\.750 0\.500 has a loop \d+ 0\.725 .* even \d+ 0\.950", text)
    assert text.endswith("never there 0 – – 0.500")


def test_many_labels_are_cut_and_counted(read):
    html = read(parts=facts("several", names=[f"label {number:02d}" for number in range(50)]))
    text = section(html, "Labels")
    assert "And 37 more." in text  # the last label has no sample
    assert "40 of 50 labels; metrics.json has all of them." in text
    assert html.count('aria-label="Precision and recall of ') == 12


def test_steps_are_confused_in_the_order_of_their_scale(read):
    text = section(read(quality="ordinal"), "Confusion")
    assert "A row is a true step, a column an answer of the candidate, both in the order of the scale." in text
    assert "larger share of the row. poor fair good perfect poor " in text
    assert "Most confused steps" in text
    assert "Mean distance, steps lower is better" in words(read(quality="ordinal"))


SHARING = {
    "angle": {"alone": 0.4, "together": 0.41, "standard_error": 0.01, "num_labels": 160, "is_shared": False,
              "with": []},
    "shape": {"alone": 0.5, "together": 0.4, "standard_error": 0.02, "num_labels": 31, "is_shared": True,
              "with": ["angle"]},
}  # fmt: skip


def test_each_of_several_targets_has_its_section_and_a_link_to_it(read):
    html = read(shape="classes", parts="several", quality="ordinal", angle="number")
    links = re.findall(r'<a class="name" href="#(target-\d)">(\w+)</a>', html)
    assert [name for _, name in links] == ["angle", "parts", "quality", "shape"]
    assert all(f'id="{place}"' in html for place, _ in links)
    assert "Answer and truth" in section(html, "angle a number, in degrees")
    assert "Most confused classes" in section(html, "shape one class of 3")
    assert "Mean average precision" in section(html, "parts any of 4 labels")
    assert "The drawings in numbers" not in section(html, "quality a step of 4")


def test_page_says_whether_each_target_is_fine_tuned_and_whether_it_shares(read):
    text = section(read(shape="classes", angle="number", sharing=SHARING), "Targets")
    assert "angle a number, in degrees 40 fine-tuned, its own trunk" in text
    assert "shape one class of 3 40 head alone" in text
    assert "angle 160 labels 0.4000 0.4100 +0.0100 ± 0.0100 none" in text
    assert "shape 31 labels 0.5000 0.4000 −0.1000 ± 0.0200 angle" in text
    assert "Alone against together" not in read(shape="classes", angle="number")


def test_reason_and_curves_of_each_target_are_shown(read):
    html = read(shape="classes", angle="number")
    assert "The model for angle is the head alone. The model for shape is" in section(html, "Fine-tuning")
    assert re.search("angle ?: 75 % of the way chosen", section(html, "Fine-tuning"))
    assert re.search("shape ?: head alone chosen", section(html, "Fine-tuning"))
    assert "It is the fine-tuned model of epoch 2." in words(html)
    assert 'aria-label="Accuracy of shape in each epoch; val, and train dashed"' in html
    assert 'aria-label="Mean error of angle in each epoch; val, and train dashed"' in html
    assert "Accuracy (share right)" not in section(html, "Fine-tuning")  # a mean over targets says nothing
    assert "Accuracy (share right)" in section(read(shape="classes"), "Fine-tuning")


def test_slices_of_a_number_have_the_mean_error(read):
    text = section(read(angle="number"), "Slices")
    assert "Samples Mean error Share right" in text
    assert "a 6 0.5 in use 0.75 0.800" in text


def test_labels_that_were_set_aside_are_listed_with_their_reasons_the_newest_batch_first(read):
    assert "Quarantined labels" not in read(angle="number")
    rows = [["a", "cat/0.png", "0" * 64, "angle", HOSTILE, "no_number", f"{HOSTILE} is no number"],
            ["b", "cat/6.png", "0" * 64, "angle", "nan", "no_number", "'nan' is nan"]]  # fmt: skip
    counts = {"angle": {"given": 43, "used": 40, "of_quarantined_samples": 1, "set_aside": {"no_number": 2}}}
    proposed = {"angle": {"kind": "number", "reason": "all 40 labels are numbers"}}
    html = read(angle="number", labels=rows, validation={"labels": counts, "kinds": proposed})
    text = section(html, "Data")
    assert "angle 43 40 2 1 2 no number" in text
    assert "The table has 2 of 2 labels, the newest batch first" in text
    assert text.index("'nan' is nan".replace("'", "&#39;")) < text.index("&lt;script&gt;alert(1)&lt;/script&gt; is no")
    assert "angle is of the kind number: all 40 labels are numbers." in text
    assert len(Tags(html).scripts) == 2


def test_names_and_units_like_a_script_are_shown_not_run(read):
    attribute = 'x" onmouseover="alert(1)'
    html = read(
        **{
            f"number {HOSTILE}": facts("number", unit=f"{HOSTILE} per {attribute}"),
            attribute: facts("several", names=[HOSTILE, attribute, "</svg>", "none"]),
            "steps": facts("ordinal", names=["</td>", HOSTILE, attribute]),
        },
        sharing={HOSTILE: SHARING["shape"] | {"with": [attribute]}},
    )
    assert Tags(html).scripts == ["application/json", None]
    assert Tags(html).handlers == []
    assert words(html).count("&lt;script&gt;") > 20


def test_page_of_two_samples_is_drawn(read):
    few = {"models": ("candidate", "head"), "num_samples": 2}
    for name, kind in (("angle", "number"), ("parts", "several"), ("quality", "ordinal")):
        assert "The candidate is accepted" in words(read(**{name: kind}, **few))


def test_page_is_drawn_where_a_target_has_no_head(kinds):
    written = kinds(shape="classes")
    known = read_json(written.folder / "validated/classes.json")
    write_json(written.folder / "validated/classes.json", known | {"angle": facts("number")})
    assert "The candidate is accepted" in words(written.draw().read_text("utf-8"))
