"""What a person reads of the domains to adapt to, in the terminal and on Prefect's page."""

import json
import shutil
from pathlib import Path

import pytest

from flows.in_use.domains import domains, line_of
from flows.in_use.outcome import outcome
from flows.status import adapted
from flows.workspace import paths
from tests.kit.domain_facts import domain, judged, of_target

ROOT = Path(__file__).parents[3]
ACCURACY = {"accuracy": 0.975, "macro_f1": 0.97, "log_loss": 0.1, "intervals": {"accuracy": [0.95, 0.99]}}
# a domain may have the name of a measure
METRICS = {"label": {"candidate": ACCURACY, "domains": {"accuracy": judged(), "night": judged()}}}
DOMAINS = {
    "accuracy": domain(),
    "fog\x1b[31m": domain(num_labels=3),
    "night": domain({"label": of_target(), "tone": of_target(method="source", changed=0.0, is_adapted=False)}),
}
NIGHT = "night, label: infomax, 23.4% of its answers changed; accuracy 0.7500, general head 0.5000, on 40 samples"


@pytest.fixture
def adapted_run(tmp_path, monkeypatch):
    """A folder in which a candidate that is adapted to three domains was judged."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    verdict = {"verdict": "accepted", "num_heldout": 200, "rules": [], "candidate": "c" * 64}
    contents = {
        paths.metrics(): METRICS, paths.verdict(): verdict, paths.baseline_record(): {},
        paths.adaptation() / "adaptation.json": {"domains": DOMAINS},
    }  # fmt: skip
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content) + "\n", "utf-8")


@pytest.mark.usefixtures("adapted_run")
def test_end_of_a_run_and_status_have_a_line_for_each_domain_and_target():
    lines = outcome()
    start = lines.index("Domains") + 1
    told = [line.strip() for line in lines[start : start + 4]]
    assert told[1].endswith("; not judged: no held-out sample has a label")
    # held-out samples of a domain that keeps the general head are judged as all others are
    assert told[2:] == [NIGHT, "night, tone: not adapted, the general head answers"]
    assert told == list(adapted())
    assert not any("accuracy, accuracy" in line for line in lines[:start])


@pytest.mark.usefixtures("adapted_run")
def test_name_of_a_domain_cannot_act_in_a_terminal():
    assert all(line_of(row).isprintable() for row in domains(METRICS))


@pytest.mark.parametrize(
    ("facts", "method"), [({"labels": "pooled"}, "its labels"), ({"statistics": "own"}, "statistics of its own")]
)
@pytest.mark.usefixtures("adapted_run")
def test_domain_may_be_adapted_where_no_method_without_labels_did_anything(facts, method):
    file = paths.adaptation() / "adaptation.json"
    file.write_text(json.dumps({"domains": {"night": domain(method="source", **facts)}}), "utf-8")
    [row] = domains(METRICS)
    assert line_of(row) == NIGHT.replace("infomax", method)


@pytest.mark.usefixtures("adapted_run")
def test_row_for_prefects_page_has_what_told_the_domain_apart():
    row = domains(METRICS)[2]
    assert (row["samples"], row["labels"], row["told apart (AUC)"]) == ("500", "0", "0.970")


@pytest.mark.usefixtures("adapted_run")
def test_project_that_adapts_to_no_domain_or_has_not_run_yet_has_no_line():
    file = paths.adaptation() / "adaptation.json"
    file.write_text('{"domains": {}}', "utf-8")
    assert "Domains" not in outcome()
    file.unlink()
    assert list(adapted()) == []
    file.write_text("[", "utf-8")
    with pytest.raises(ValueError, match="is damaged, expected a JSON object: run `dvc repro adapt` again"):
        outcome()
