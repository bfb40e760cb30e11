"""The verb that judges, run as the pipeline runs it: with the shipped rules on an evaluation made up here."""

import json
import re
import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pandas as pd
import pytest

from tasks.data.manifest.tables import write_text_table
from tasks.gate.anchor import names_of
from tasks.gate.recorder import Recorder
from tasks.machine.files import write_json
from tasks.metrics.significance import mcnemar
from tasks.metrics.slices import COLUMNS
from tasks.regression import judge, named

LABELS = ("cat",) * 20 + ("dog",) * 20
ROOT = Path(__file__).parents[2]
RULES = ROOT / "tests/regression"
SUBJECT = {
    "candidate": "c" * 64, "baseline": None, "stage": "head", "num_heldout": 40, "lineage": {},
    "candidate_bytes": 2_000_000, "heldout": "d" * 64, "confidence": 0.95,
    "lost_classes": {}, "classes_without_samples": {},
}  # fmt: skip


FLOORS = {"min_accuracy": 0.9, "min_class_recall": 0.7, "max_calibration_error": 0.15}


def set_floors(folder, **floors):
    """Write a params.yaml that has floors, as a person sets them."""
    text = (ROOT / "params.yaml").read_text("utf-8")
    for name, floor in (floors or FLOORS).items():
        assert f"{name}: null" in text
        text = text.replace(f"{name}: null", f"{name}: {floor}")
    (folder / "params.yaml").write_text(text, "utf-8")


def measured(
    folder,
    *,
    baseline=None,
    flips=None,
    was=None,
    groups=None,
    slices=(),
    lost_classes=(),
    labels=LABELS,
    answers=None,
    head=None,
    about=(),
    **numbers,
):
    """Write what evaluate measured; a number that is given replaces one that meets every limit.

    Candidate and head answer every sample right, unless their answers are given. The model in use does, too; `was` has
    its answers.
    """
    folder.mkdir(exist_ok=True)
    candidate = {"accuracy": 0.95, "calibration_error": 0.05, "recall": {"cat": 0.9, "dog": 1.0}, "unchanged": {},
                 "intervals": {"calibration_error": [0.02, 0.08]}}  # fmt: skip
    candidate |= numbers
    share = labels.count(labels[0]) / len(labels)
    metrics = {"candidate": candidate, "majority_class": {"name": labels[0], "heldout_share": share}}
    if flips:
        metrics |= {"baseline": candidate, "flips": flips}
    write_json(folder / "metrics.json", {"label": metrics})
    lost = {"lost_classes": {"label": list(lost_classes)} if flips else {}}
    write_json(folder / "subject.json", SUBJECT | {"baseline": baseline} | lost | dict(about))
    by_model = {"candidate": answers or labels, "head": head or answers or labels} | (
        {"baseline": was or labels} if flips else {}
    )
    ids = [sha256(f"{number}".encode()).hexdigest() for number in range(len(labels))]
    rows = pd.DataFrame(
        {"label": labels, "sample_id": ids, "target": "label", "batch": "b", "is_shared": True} | by_model
    )
    if groups:
        rows = rows.assign(cluster=groups)
    rows = rows.assign(
        **{f"{model}{what}": 0.9 for model in by_model for what in ("_confidence", "_label_probability")}
    )
    rows.to_parquet(folder / "predictions.parquet")
    write_text_table(folder / "slices.csv", pd.DataFrame(slices, columns=list(COLUMNS)))


def flips_of(negative, positive, *, num_samples=40):
    """The flips as evaluate writes them."""
    p_value = mcnemar(negative, positive)
    return {"negative": negative, "positive": positive, "num_samples": num_samples, "p_value": p_value}


def judging(out, *, tests=RULES):
    """The arguments with which the shipped rules judge what `measured` wrote."""
    return (
        "regression", "--evaluation", "evaluation", "--candidate", "candidate", "--tests", tests,
        "--decisions", "decisions.jsonl", "--anchor", "anchor.json", "--out", out,
    )  # fmt: skip


def contents(folder):
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@pytest.fixture(scope="module")
def accepted(shell_in, tmp_path_factory):
    """A folder in which a good candidate was judged twice, and how the last run ended."""
    folder = tmp_path_factory.mktemp("accepted")
    set_floors(folder)
    measured(folder / "evaluation")
    for out in ("first", "second"):
        done = shell_in(folder, *judging(out))
    return folder, done


@pytest.fixture(scope="module")
def rejected(shell_in, tmp_path_factory):
    """The verdict on a candidate that lost a class and is worse than the model in use, and how the run ended."""
    folder = tmp_path_factory.mktemp("rejected")
    set_floors(folder)
    recall = {"cat": 0.2, "dog": 1.0}
    answers, was = ("dog",) * 9 + LABELS[9:], (*LABELS[:39], "cat")
    models = {"baseline": "b" * 64, "flips": flips_of(9, 1), "answers": answers, "was": was}
    measured(folder / "evaluation", **models, recall=recall, lost_classes=["eel"])
    done = shell_in(folder, *judging("regression"))
    return json.loads((folder / "regression" / "verdict.json").read_text("utf-8")), done


def test_candidate_above_every_limit_is_accepted(accepted):
    folder, done = accepted
    assert done.status == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "the candidate is accepted"
    verdict = json.loads((folder / "first" / "verdict.json").read_text("utf-8"))
    assert (verdict["verdict"], verdict["candidate"], verdict["num_failed"]) == ("accepted", "c" * 64, 0)


def test_equal_runs_leave_equal_bytes(accepted):
    folder, _ = accepted
    assert set(contents(folder / "first")) == {"junit.xml", "verdict.json"}
    assert contents(folder / "first") == contents(folder / "second")


def test_junit_report_names_every_test(accepted):
    folder, _ = accepted
    cases = ElementTree.parse(folder / "first" / "junit.xml").iter("testcase")  # noqa: S314
    names = [case.get("name") for case in cases]
    assert len(names) == json.loads((folder / "first" / "verdict.json").read_text("utf-8"))["num_tests"]
    assert "test_accuracy_is_above_the_floor" in names


def test_candidate_below_a_limit_is_rejected_with_the_rule_that_it_broke(rejected):
    verdict, done = rejected
    assert done.status == 1
    assert verdict["verdict"] == "rejected"
    [broken] = [rule for rule in verdict["rules"] if rule["name"] == "label recall of cat beside a floor of 0.7"]
    assert (broken["value"], broken["limit"], broken["passed"]) == (0.2, 0.4, False)
    assert "FAIL label recall of cat beside a floor of 0.7: 0.2, at least 0.4" in done.stderr


def test_rejected_run_names_the_parameter_the_page_and_how_to_promote_all_the_same(rejected):
    lines = rejected[1].stderr.splitlines()
    advice = lines[lines.index("the candidate is rejected") + 1 :]
    assert (
        "regression.min_class_recall in params.yaml has the limit of: label recall of cat beside a floor of 0.7"
        in advice
    )
    assert [line for line in advice if "`dvc repro --ignore-errors report`" in line]
    assert [line for line in advice if "`python -m flows.promote --force --why" in line]


@pytest.fixture
def judged_first(shell, workspace):
    """Judge a first candidate by the params that the project comes with, and return its rules by name."""

    def judge_first(**settings):
        measured(workspace / "evaluation", **settings)
        done = shell(*judging("out"))
        verdict = json.loads((workspace / "out" / "verdict.json").read_text("utf-8"))
        return done.status, {rule["name"]: rule["passed"] for rule in verdict["rules"]}

    return judge_first


BEATS = "label p-value that the candidate is no better than always answering cat"
AS_HEAD = "label p-value that the candidate is no worse than its head alone"


def test_first_candidate_on_data_of_88_percent_is_accepted_without_any_floor(judged_first):
    answers = ("cat",) * 18 + ("dog",) * 2 + ("dog",) * 17 + ("cat",) * 3
    numbers = {"accuracy": 0.875, "recall": {"cat": 0.9, "dog": 0.85}, "calibration_error": 0.2}
    assert judged_first(answers=answers, **numbers) == (0, {BEATS: True, AS_HEAD: True})


def test_first_candidate_that_is_no_better_than_the_majority_class_is_rejected(judged_first):
    answers = ("cat",) * 19 + ("dog",) + ("dog",) * 4 + ("cat",) * 16  # 58 %, which chance explains
    assert judged_first(answers=answers) == (1, {BEATS: False, AS_HEAD: True})


def test_first_candidate_that_fine_tuning_made_worse_than_its_head_is_rejected(judged_first):
    answers = ("cat",) * 14 + ("dog",) * 6 + ("dog",) * 20
    assert judged_first(answers=answers, head=LABELS) == (1, {BEATS: True, AS_HEAD: False})


def test_candidate_that_is_significantly_worse_than_the_model_in_use_breaks_a_rule(rejected):
    verdict, _ = rejected
    [rule] = [rule for rule in verdict["rules"] if rule["name"].endswith("no worse on all samples")]
    assert (rule["value"], rule["passed"]) == (pytest.approx(11 / 1024), False)


def test_candidate_that_does_not_know_a_class_of_the_model_in_use_breaks_a_rule(rejected):
    verdict, _ = rejected
    [lost] = [rule for rule in verdict["rules"] if "classes that the model in use knows" in rule["name"]]
    assert (lost["value"], lost["passed"]) == (1.0, False)


def test_every_rule_of_a_share_tells_the_smallest_effect_that_it_could_have_shown(rejected):
    verdict, _ = rejected
    untold = [rule["name"] for rule in verdict["rules"] if rule["smallest_detectable"] is None]
    assert untold == ["label classes that the model in use knows and the candidate does not"]


def test_rule_that_is_met_is_shown_as_met(rejected):
    verdict, done = rejected
    assert [rule["passed"] for rule in verdict["rules"] if rule["name"].startswith("label accuracy")] == [True]
    assert "pass label accuracy beside a floor of 0.9: 0.95, at least 0.75" in done.stderr


def test_folder_without_tests_is_no_acceptance(shell, workspace):
    measured(workspace / "evaluation")
    (workspace / "none").mkdir()
    shutil.copy(RULES / "conftest.py", workspace / "none")
    done = shell(*judging("regression", tests="none"))
    assert "did not run" in done.error
    assert not (workspace / "regression").exists()


@pytest.mark.parametrize("outcome", ["failed", "skipped", "error"])
def test_test_that_did_not_pass_is_no_acceptance(outcome):
    recorder = Recorder()
    recorder.outcomes = ["passed", outcome]
    verdict = judge(recorder, SUBJECT, promotes=["accepted"])
    assert (verdict["verdict"], verdict["num_failed"], verdict["num_tests"]) == ("rejected", 1, 2)


@pytest.fixture
def judged_often(shell, workspace):
    """Judge a candidate whose accuracy is a little above its floor, after so many others on the same held-out set."""

    def judge_after(num_others, *, heldout="d" * 64, accuracy=0.92):
        set_floors(workspace)
        measured(workspace / "evaluation", accuracy=accuracy)
        lines = [{"candidate": str(number), "heldout": heldout, "verdict": "rejected"} for number in range(num_others)]
        (workspace / "decisions.jsonl").write_text(json.dumps(lines), "utf-8")
        done = shell(*judging("out"))
        return json.loads((workspace / "out" / "verdict.json").read_text("utf-8")), done

    return judge_after


@pytest.mark.parametrize(("num_right", "status"), [(5, 0), (3, 1)])
def test_floor_rejects_a_class_only_where_its_recall_is_significantly_below(shell, workspace, num_right, status):
    """Five of six are no evidence against a recall of 0.95; three of six are."""
    set_floors(workspace, min_class_recall=0.95)
    recall = {"big": 0.95, "six": num_right / 6}
    measured(workspace / "evaluation", recall=recall, labels=["big"] * 1000 + ["six"] * 6)
    done = shell(*judging("out"))
    assert ("FAIL label recall of six" in done.stderr) == (status == 1)


def test_class_that_is_too_small_for_a_floor_is_listed(shell, workspace):
    set_floors(workspace, min_class_recall=0.5)
    measured(workspace / "evaluation", recall={"big": 0.95, "two": 0.0}, labels=["big"] * 1000 + ["two"] * 2)
    done = shell(*judging("out"))
    assert "too few held-out samples for regression.min_class_recall: label two" in done.stderr


def test_decisions_on_another_held_out_set_count_for_nothing(judged_often):
    assert judged_often(9, heldout="e" * 64)[0]["num_decisions"] == 1


def test_worn_held_out_set_is_told_with_the_remedy(judged_often):
    verdict, done = judged_often(50, accuracy=1.0)
    assert verdict["is_worn"]
    assert "rotate it, by another validate.split_salt" in done.stderr


def test_list_that_holds_no_decisions_is_refused(shell, workspace):
    measured(workspace / "evaluation")
    (workspace / "decisions.jsonl").write_text('[{"heldout": 3}]', "utf-8")
    done = shell(*judging("out"))
    assert "decisions.jsonl is not a list of decisions (in its list): restore it with git" in done.error


def test_verdict_is_written_down_once_however_often_it_is_found(accepted):
    folder, _ = accepted
    [decision] = (json.loads(line) for line in (folder / "decisions.jsonl").read_text("utf-8").splitlines())
    assert len(decision.pop("sample")) == len(LABELS)
    assert decision == {"candidate": "c" * 64, "heldout": "d" * 64, "verdict": "accepted"}


@pytest.mark.parametrize("name", ["subject.json", "metrics.json", "predictions.parquet", "slices.csv"])
def test_missing_artifact_is_an_error_and_no_verdict(shell, workspace, name):
    measured(workspace / "evaluation")
    (workspace / "evaluation" / name).unlink()
    done = shell(*judging("out"))
    assert f"evaluation/{name} is missing: run `dvc repro evaluate`" in done.error
    assert not (workspace / "out").exists()


def test_test_that_could_not_judge_is_told_with_the_reason(shell, workspace):
    rules = shutil.copytree(RULES, workspace / "rules")
    (rules / "test_own.py").write_text(
        "import pytest\ndef test_zebras(heldout):\n    heldout['zebra']\n"
        "@pytest.mark.skip(reason='later')\ndef test_horses():\n    pass\n",
        "utf-8",
    )
    measured(workspace / "evaluation")
    done = shell(*judging("out", tests="rules"))
    verdict = json.loads((workspace / "out" / "verdict.json").read_text("utf-8"))
    assert verdict["verdict"] == "rejected"
    assert verdict["problems"] == ["test_zebras: KeyError: 'zebra'", "test_horses: Skipped: later"]
    assert "test_zebras: KeyError: 'zebra'" in done.stderr


@pytest.mark.parametrize(("budget", "is_kept"), [(1e-6, False), (1e6, True)])
def test_latency_is_held_to_its_budget(shell, workspace, bundle, budget, is_kept):
    """The bundle is one that runs in milliseconds, and not in a billionth of a second."""
    measured(workspace / "evaluation")
    params = (workspace / "params.yaml").read_text("utf-8")
    budgeted = params.replace("max_latency_milliseconds: null", f"max_latency_milliseconds: {budget:f}")
    (workspace / "params.yaml").write_text(budgeted, "utf-8")
    assert bundle == workspace / "candidate"
    done = shell(*judging("out"))
    verdict = json.loads((workspace / "out" / "verdict.json").read_text("utf-8"))
    assert [rule["passed"] for rule in verdict["rules"] if rule["name"].startswith("one sample")] == [is_kept]
    assert "ms for one sample" in done.stderr


OWN_TEST = """
def test_zebras(heldout, candidate, rule):
    zebras = heldout["label"] == "zebra"
    rule("zebras called horses", (candidate["label"][zebras] == "horse").mean(), {limits})
"""


@pytest.fixture
def judged_by_own_test(shell, workspace):
    """The verdict by the shipped rules and the test of README, with such limits."""

    def judge_with(limits, **options):
        rules = shutil.copytree(RULES, workspace / "rules")
        (rules / "test_own.py").write_text(OWN_TEST.format(limits=limits), "utf-8")
        measured(workspace / "evaluation")
        done = shell(*judging("out", tests="rules"), **options)
        return json.loads((workspace / "out" / "verdict.json").read_text("utf-8")), done

    return judge_with


def test_rule_without_a_sample_is_told_by_its_name(judged_by_own_test):
    verdict, _ = judged_by_own_test("at_most=0.01")
    [problem] = verdict["problems"]
    assert "the rule 'zebras called horses' has the value nan and the limit 0.01, expected finite numbers" in problem


@pytest.mark.parametrize("limits", ["", "at_most=1, at_least=0"])
def test_rule_has_one_limit(judged_by_own_test, limits):
    verdict, _ = judged_by_own_test(limits)
    assert "the rule 'zebras called horses' must have one limit" in verdict["problems"][0]


def test_environment_leaves_no_test_out(judged_by_own_test):
    verdict, _ = judged_by_own_test("at_most=0.01", environment={"PYTEST_ADDOPTS": "-k floor"})
    assert verdict["verdict"] == "rejected"


def test_test_that_was_left_out_is_no_acceptance():
    recorder = Recorder()
    recorder.outcomes = ["passed"]
    recorder.pytest_deselected([SimpleNamespace(name="test_zebras")])
    assert recorder.problems == ["test_zebras: it was left out"]
    assert judge(recorder, SUBJECT, promotes=["accepted"])["verdict"] == "rejected"


def test_slice_that_is_too_small_to_show_a_loss_is_listed(shell, workspace):
    row = dict.fromkeys(COLUMNS, 0) | {"target": "label", "column": "class", "value": "cat"}
    measured(workspace / "evaluation", baseline="b" * 64, flips=flips_of(0, 0), slices=[row])
    shell(*judging("out"))
    verdict = json.loads((workspace / "out" / "verdict.json").read_text("utf-8"))
    assert verdict["unseen"] == [f"label class {name} could lose up to 14.1 points" for name in ("cat", "dog")]


def test_models_that_no_sample_compares_are_no_acceptance(shell, workspace):
    """The state after a rotation: the baseline learned from all that is held out now."""
    flips = {"negative": 0, "positive": 0, "num_samples": 0, "p_value": 1.0}
    measured(workspace / "evaluation", baseline="b" * 64, flips=flips)
    done = shell(*judging("out"))
    assert done.status == 1
    assert "no held-out sample of label can compare the candidate with the model in use" in done.stderr


def test_target_that_the_model_in_use_lacks_is_judged_as_on_a_first_run(judged_first):
    flips = {"negative": 0, "positive": 0, "num_samples": 0, "p_value": 1.0}
    about = {"lost_classes": {"colour": []}}
    status, rules = judged_first(baseline="b" * 64, flips=flips, about=about)
    assert status == 0
    assert rules.items() >= {BEATS: True, AS_HEAD: True}.items()


def test_class_of_which_no_sample_is_held_out_is_told(shell, workspace):
    measured(workspace / "evaluation", about={"classes_without_samples": {"label": ["eel"]}})
    done = shell(*judging("out"))
    verdict = json.loads((workspace / "out" / "verdict.json").read_text("utf-8"))
    assert verdict["classes_without_samples"] == ["label eel"]
    assert "not judged, because no held-out sample has it: label eel" in done.stderr


def test_calibration_that_no_sample_can_judge_is_no_acceptance(shell, workspace):
    set_floors(workspace)
    measured(workspace / "evaluation", num_calibrated=0)
    done = shell(*judging("out"))
    assert done.status == 1
    assert "every held-out sample of label is of a domain that the candidate is adapted to" in done.stderr


def test_nothing_around_the_gate_s_folder_has_a_part_in_the_verdict(shell, workspace):
    """DVC watches that folder alone: neither another conftest.py, nor a setting, nor an installed plugin of pytest."""
    measured(workspace / "evaluation")
    shutil.copytree(RULES, workspace / "tests/regression")
    no_plugin = "def test_no_plugin(pytestconfig):\n    assert not pytestconfig.pluginmanager.list_plugin_distinfo()\n"
    (workspace / "tests/regression/test_own.py").write_text(no_plugin, "utf-8")
    (workspace / "tests/conftest.py").write_text("raise RuntimeError('this one is of other tests')", "utf-8")
    (workspace / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-k nothing'\n", "utf-8")
    assert shell(*judging("out", tests="tests/regression")).status == 0


@pytest.mark.parametrize("content", [b"", b'{"a', b"\xff\xfe"])
def test_damaged_list_of_decisions_is_restored_and_not_begun_anew(shell, workspace, content):
    measured(workspace / "evaluation")
    (workspace / "decisions.jsonl").write_bytes(content)
    assert "decisions.jsonl is not a list of decisions (in line 1): restore it with git" in shell(*judging("out")).error


@pytest.fixture
def compared(shell, workspace):
    """Judge a candidate beside the model in use, and return how that ended and the verdict."""

    def compare(*, was, answers, labels=LABELS, **about):
        negative = sum(old == true != new for old, new, true in zip(was, answers, labels, strict=True))
        positive = sum(new == true != old for old, new, true in zip(was, answers, labels, strict=True))
        flips = flips_of(negative, positive, num_samples=len(labels))
        models = {"baseline": "b" * 64, "flips": flips, "was": was, "answers": answers, "labels": labels}
        measured(workspace / "evaluation", **models, **about)
        shutil.rmtree(workspace / "out", ignore_errors=True)
        done = shell(*judging("out"))
        return done, json.loads((workspace / "out" / "verdict.json").read_text("utf-8"))

    return compare


def wrong(*places, num=40):
    """Return answers to `num` samples, half of them cats, that are wrong at these places."""
    labels = ["cat"] * (num // 2) + ["dog"] * (num // 2)
    return tuple({"cat": "dog", "dog": "cat"}[name] if place in places else name for place, name in enumerate(labels))


def set_regression(folder, before, after):
    """Write a params.yaml in which a text is replaced."""
    text = (ROOT / "params.yaml").read_text("utf-8")
    assert before in text
    (folder / "params.yaml").write_text(text.replace(before, after), "utf-8")


def test_equal_models_on_few_samples_are_undecided_and_pass_with_what_would_decide(compared):
    done, verdict = compared(was=wrong(0, 1), answers=wrong(2, 3))
    assert (done.status, verdict["verdict"], verdict["promotes"]) == (0, "undecided", True)
    [doubt] = verdict["doubts"]
    assert re.search(r"shows that it lost less than 1\d\.\d points, expected 2\.0 points", doubt)
    assert "it is not behind on these" in doubt
    assert "more held-out samples would show it of an equal model" in doubt
    assert done.stderr.splitlines()[-1] == "the candidate is undecided"


def test_undecided_candidate_that_is_behind_waits_for_a_person(compared):
    done, verdict = compared(was=wrong(0), answers=wrong(2, 3))
    assert (done.status, verdict["verdict"], verdict["promotes"]) == (3, "undecided", False)
    assert "the candidate is undecided and waits for a person" in done.stderr.splitlines()
    assert "it is 2.5 points behind" in verdict["doubts"][0]


def test_loss_that_is_hardly_not_ruled_out_does_not_look_like_the_margin(compared):
    models = {"was": wrong(*range(60), num=1000), "answers": wrong(*range(60, 120), num=1000)}
    _, verdict = compared(**models, labels=wrong(num=1000))
    assert "shows that it lost less than 2.01 points, expected 2.0 points" in verdict["doubts"][0]


def test_many_samples_that_show_no_loss_of_the_margin_accept(compared):
    models = {"was": wrong(1, 2, 3, num=2000), "answers": wrong(4, 5, 6, num=2000)}
    done, verdict = compared(**models, labels=wrong(num=2000))
    assert (done.status, verdict["verdict"]) == (0, "accepted")
    assert "doubts" not in verdict


def test_certain_loss_is_accepted_where_it_is_shown_to_be_below_the_margin(compared):
    models = {"was": wrong(num=4000), "answers": wrong(*range(0, 4000, 400), num=4000)}
    done, verdict = compared(**models, labels=wrong(num=4000))
    assert (done.status, verdict["verdict"]) == (0, "accepted")
    [rule] = [rule for rule in verdict["rules"] if rule["name"] == "label loss on all samples that is not ruled out"]
    assert 0.0025 < rule["value"] < rule["limit"] == 0.02


def test_group_that_flips_together_counts_once(compared):
    """Nine samples of one burst are one sample: they are no evidence of a loss, and nine alone are."""
    lost = {"was": wrong(), "answers": wrong(*range(9))}
    assert compared(**lost)[1]["verdict"] == "rejected"
    clusters = ["burst"] * 9 + [str(number) for number in range(31)]
    assert compared(**lost, groups=clusters)[1]["verdict"] == "undecided"


def test_margin_of_null_asks_only_for_no_evidence_of_a_loss(compared, workspace):
    set_regression(workspace, "  margin: 0.02 ", "  margin: null ")
    assert compared(was=wrong(0), answers=wrong(2, 3))[1]["verdict"] == "accepted"


def test_further_try_on_one_comparison_passes_by_itself_only_where_it_is_ahead(compared, workspace):
    sample = sorted(sha256(f"{number}".encode()).hexdigest()[:12] for number in range(40))
    about = {"baseline": "b" * 64, "verdict": "undecided", "sample": sample}
    lines = [json.dumps(about | {"candidate": name, "heldout": name}) for name in ("first", "second")]
    (workspace / "decisions.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    done, verdict = compared(was=wrong(0, 1), answers=wrong(2, 3))
    assert (done.status, verdict["num_decisions"]) == (3, 3)
    assert re.search(
        r"it is 0\.0 points ahead on these, and a further try .* from \d\.\d points on", verdict["doubts"][0]
    )
    assert compared(was=wrong(0, 1, 4, 5, 6, 7, 8), answers=wrong(2))[0].status == 0


def test_loss_against_the_best_model_that_was_in_use_waits(compared, workspace):
    ids = [sha256(f"{number}".encode()).hexdigest() for number in range(40)]
    names = names_of(pd.DataFrame({"sample_id": ids, "label": LABELS}))
    best = {"label": {"model": "a" * 64, "errors": dict.fromkeys(names, 0.0)}}
    write_json(workspace / "anchor.json", best)
    done, verdict = compared(was=wrong(0, 1, 2), answers=wrong(3, 4, 5))
    assert (done.status, verdict["promotes"]) == (3, False)
    assert [text for text in verdict["doubts"] if "the best model that was in use, aaaaaaaaaaaa" in text]
    assert json.loads((workspace / "anchor.json").read_text("utf-8")) == best


def test_model_in_use_becomes_the_anchor_where_there_is_none(compared, workspace):
    compared(was=wrong(0), answers=wrong(1))
    anchor = json.loads((workspace / "anchor.json").read_text("utf-8"))["label"]
    assert (anchor["model"], sum(anchor["errors"].values()), len(anchor["errors"])) == ("b" * 64, 1.0, 40)


def test_promotes_may_ask_for_a_person_whenever_nothing_is_shown(compared, workspace):
    set_regression(workspace, "promotes: [accepted, undecided]", "promotes: [accepted]")
    assert compared(was=wrong(0), answers=wrong(1))[0].status == 3


def test_undecided_candidates_in_a_row_wait_in_the_end(compared, workspace):
    """Four passed by themselves, and the last of them is in use."""
    names = ["1", "2", "3", "b" * 64]
    chain = [
        {"candidate": name, "baseline": before, "heldout": "x", "verdict": "undecided"}
        for before, name in zip(["0", *names], names, strict=False)
    ]
    (workspace / "decisions.jsonl").write_text("\n".join(map(json.dumps, chain)) + "\n", "utf-8")
    done, verdict = compared(was=wrong(0, 1), answers=wrong(2, 3))
    assert done.status == 3
    assert "4 undecided ones in a row were put in use before" in verdict["doubts"][0]


def test_names_of_domains_and_classes_are_told_on_one_line():
    texts = named({"label": ["fog\x1b[31m\n red", "night"]})
    assert texts == [r"label fog\x1b[31m\n red", "label night"]
