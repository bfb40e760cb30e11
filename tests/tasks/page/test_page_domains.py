"""The page's section of domains, which only a page with a domain to adapt to has."""

import pandas as pd
import pytest

from tasks.machine.files import read_json, write_json
from tasks.page import domains as page_domains
from tasks.training.alignment import gate
from tests.kit.domain_facts import domain, judged, of_target
from tests.tasks.page.test_report import HOSTILE, words

SAMPLES = [("cartoon", "target", number, 5 - number) for number in range(3)] + [
    ("cartoon", "source", number, number - 9) for number in range(6, 9)
]


@pytest.fixture
def section(project):
    """Return a function that draws a page and returns the words of its section of domains."""

    def read(*, show_text=False, max_pictures=40, **arguments):
        html = project(**arguments).draw(show_text=show_text, max_pictures=max_pictures).read_text("utf-8")
        start = html.index('<section aria-labelledby="domains">')
        return html[start : html.index("</section>", start)]

    return read


def test_page_without_domains_has_no_trace_of_them(page):
    html = page()
    assert "domain" not in html.lower()


def test_domain_is_told_by_how_it_differs_and_what_was_done(section):
    text = words(section(domains={"cartoon": domain()}))
    for sentence in (
        "500 samples, no labels; the source is photo (1,200 samples).",
        "how much accuracy is lost it cannot say",
        "It can be told apart from the sources: AUC 0.970, 28.1 standard errors from chance.",
        "Adapted by infomax : each domain is standardised by itself",
        "Reason: the domains are far apart.",
        "23.4 % of the answers on its samples differ from those of the sources' own head.",
        "Probabilities are not calibrated on this domain.",
        "Not judged : no held-out sample of this domain has a label.",
    ):
        assert sentence in text.replace("&#39;", "'"), sentence


def test_domain_that_stays_is_told_with_its_reason(section):
    facts = domain(method="source", reason="it has 7 samples", auc=0.52, z=0.8, is_adapted=False, changed=0.0)
    text = words(section(domains={"cartoon": facts}))
    assert "It cannot be told apart from the sources: AUC 0.520" in text
    assert "Not adapted : the general head answers. Reason: it has 7 samples." in text
    for absent in ("not calibrated", "Not judged", "of the answers on its samples"):
        assert absent not in text


def test_accuracy_of_the_general_head_stands_beside_that_of_the_adapted_one(section):
    text = words(section(domains={"cartoon": domain()}, judged={"cartoon": judged()}))
    assert "Held-out accuracy on 40 samples of this domain" in text
    assert "Adapted head 0.7500 0.6250 to 0.8750" in text
    assert "General head 0.5000 0.3750 to 0.6250" in text
    assert "12 answers are gained and 2 lost" in text
    assert "Not judged" not in text


def test_shares_of_the_classes_begin_with_the_largest_change(section):
    classes = [f"class {number:02}" for number in range(page_domains.MAX_SHARES + 2)]
    shares = dict.fromkeys(classes, 0.01)
    facts = domain(shares=shares, estimated=shares | {"class 30": 0.25})
    html = section(domains={"cartoon": facts})
    assert "class 30 1.0 % 25.0 % class 00 1.0 % 1.0 %" in words(html)
    assert "40 of 42 classes; adaptation.json has all of them." in words(html)
    assert html.count('<rect class="here"') == page_domains.MAX_SHARES


def test_head_that_few_labels_choose_is_marked_among_the_others(section):
    brier = {"adapted": 0.41, "informed": 0.33, "pooled": 0.36}
    facts = domain(num_labels=9, labels="informed", brier=brier)
    text = words(section(domains={"cartoon": facts}))
    assert "What its 9 labels add, by cross-validation over them" in text
    assert "the information on the unlabelled samples chosen 0.3300 the sources and these labels" in text
    too_few = domain(num_labels=1, labels="adapted")
    assert "Its 1 label is too few for a cross-validation" in words(section(domains={"cartoon": too_few}))


def test_labels_alone_may_adapt_a_domain(section):
    facts = domain(method="source", reason="it has 7 samples", labels="pooled", num_labels=4)
    assert "Adapted by its labels. Reason: it has 7 samples." in words(section(domains={"cartoon": facts}))


def test_statistics_of_a_domain_alone_may_adapt_it(section):
    facts = domain(method="source", reason="a classifier cannot tell the domains apart", statistics="own")
    text = words(section(domains={"cartoon": facts}))
    assert "Adapted by statistics of its own alone." in text
    assert "23.4 % of the answers" in text


def test_facts_that_only_some_methods_have_are_told(section):
    facts = domain(
        method="reweight", asked="reweight", reason=None, effective_samples=85.4, effective_samples_flattened=360.2,
        absent_classes={"sketch": ["dog"]}, constant_features=1,
    )  # fmt: skip
    text = words(section(domains={"cartoon": facts}))
    assert "adapt.method in params.yaml asks for reweight ." in text
    assert "carry as much as 85 samples of equal weight, 360 after they were flattened." in text
    assert "The source sketch has no sample of 1 class: dog ." in text
    assert "1 feature is constant in one domain and not in another." in text
    aligned = of_target(method="align", asked="align", align="coral", reason=None)
    assert "the domains are made alike by CORAL." in words(section(domains={"cartoon": domain({"label": aligned})}))


def test_images_of_each_side_are_the_most_unlike_and_no_more_than_the_page_may_show(section):
    html = section(domains={"cartoon": domain()}, unlike=SAMPLES)
    here, there = html.split("Images of the sources, most unlike this domain")
    assert here.count("<img") == there.count("<img") == 3
    assert there.index("/6.png") < there.index("/7.png") < there.index("/8.png")
    few = section(domains={"cartoon": domain()}, unlike=SAMPLES, max_pictures=4)
    assert few.count("<img") == 4
    assert "/8.png" not in few


def test_texts_are_quoted_only_where_the_page_may_show_texts(section):
    arguments = {"domains": {"cartoon": domain()}, "unlike": SAMPLES, "texts": ["first words"]}
    assert section(**arguments).count("<blockquote") == 0
    assert "cat/0.txt" in section(**arguments)
    assert section(show_text=True, **arguments).count("<blockquote") == 6


def test_names_of_domains_and_classes_are_text(section):
    facts = domain(classes=[HOSTILE, "dog"], sources={HOSTILE: 5}, absent_classes={HOSTILE: [HOSTILE]}, reason=HOSTILE)
    html = section(domains={HOSTILE: facts}, judged={HOSTILE: judged()})
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 6


def test_sample_that_changed_since_is_refused(project):
    written = project(domains={"cartoon": domain()}, unlike=SAMPLES)
    (written.folder / "raw/a/cat/0.png").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"cat/0\.png"):
        written.draw()


def test_page_calls_apart_what_the_gate_acts_on():
    assert (page_domains.LEAST_AUC, page_domains.LEAST_Z) == (gate.LEAST_AUC, gate.LEAST_Z)


def test_answers_and_measures_that_are_not_calibrated_are_called_so(project):
    written = project(domains={"cartoon": domain()})
    evaluation = written.folder / "evaluation"
    predictions = pd.read_parquet(evaluation / "predictions.parquet")
    is_adapted = predictions.index < 6
    own = {f"general{part}": predictions[f"candidate{part}"].where(is_adapted) for part in ("", "_confidence")}
    predictions.assign(**own).to_parquet(evaluation / "predictions.parquet")
    metrics = read_json(evaluation / "metrics.json")
    metrics["label"]["candidate"] |= {"num_calibrated": 6}
    write_json(evaluation / "metrics.json", metrics)
    text = words(written.draw().read_text("utf-8"))
    assert text.count("75 % sure, not calibrated") == 1  # of the errors 1 and 6
    assert "The calibration error is that of 6 samples: the heads of domains that answer the others" in text


def test_domains_that_nobody_judged_and_those_that_are_lost_are_told_at_the_top(project):
    written = project(domains={"cartoon": domain()})
    path = written.folder / "regression/verdict.json"
    told = {"domains_without_samples": ["label cartoon"], "lost_domains": [f"label {HOSTILE}"]}
    write_json(path, read_json(path) | told)
    text = words(written.draw().read_text("utf-8")).split("Worst errors")[0]
    assert "no held-out sample of it has a label: label cartoon ." in text
    assert "adapted to these domains and the candidate is not: label &lt;script&gt;" in text
