"""Promotion and rollback: refusals, records, and the models that others can fetch."""

import json
import os
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from flows.in_use.place import digests
from flows.workspace.hashes import hash_of
from flows.workspace.working_copy import commit
from tasks.data.samples.samples import sample_id
from tasks.machine.files import write_json
from tasks.models.bundle import save_bundle
from tasks.models.classifier import Classifier
from tasks.models.description import with_digest
from tasks.models.weights import load_backbone
from tests.kit.plain import plain_probabilities
from tests.kit.programs import git, run_module, running
from tests.kit.sharing import copied

NAMES = ["cat", "dog"]


def promote(project, *arguments, status=0):
    """Return what the command printed, or the line of its refusal."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = run_module("flows.promote", *arguments, status=status, cwd=project, env=environment)
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1] if status else done.stdout


def log_of(project):
    return [json.loads(line) for line in (project / "data/models/promotions.jsonl").read_text("utf-8").splitlines()]


def change(path, text):
    """Replace a file that may share its bytes with DVC's cache."""
    path.unlink()
    path.write_text(text, "utf-8")


def digest_in_use(project):
    hashes = digests(project / "data/models/baseline")
    assert json.loads((project / "data/models/baseline.json").read_text("utf-8")) == hashes
    return hashes["model_sha256"]


def change_candidate(project):
    """Replace the candidate by a model without a verdict."""
    folder = project / "data/models/candidate"
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(
        {name: tensor + 0.01 if name == "heads.0.bias" else tensor for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    describe_candidate(project, weights_sha256=digests(folder)["model_sha256"])


def describe_candidate(project, **changes):
    """Replace model.json by another valid one."""
    path = project / "data/models/candidate/model.json"
    described = with_digest(json.loads(path.read_text("utf-8")) | changes)
    change(path, json.dumps(described))


@pytest.fixture(scope="module")
def evaluated(empty_project, dvc, tmp_path_factory):
    """A project with an accepted candidate, a small untrained network. Copy it, never change it."""
    copy = tmp_path_factory.mktemp("evaluated") / "project"
    copied(empty_project, copy)
    remote = tmp_path_factory.mktemp("remote")
    with (copy / ".dvc/config").open("a") as config:
        config.write(f"    remote = store\n['remote \"store\"']\n    url = {remote}\n")
    torch.manual_seed(0)
    backbone = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
    model = Classifier(backbone, {"label": NAMES}).eval()
    data = copy / "data"
    for folder in ("models/candidate", "evaluation", "regression", "raw/first"):
        (data / folder).mkdir(parents=True)
    save_bundle(data / "models/candidate", model, lineage={})
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels) for pixels in noise]
    for number, image in enumerate(images):
        image.save(data / f"raw/first/{number}.png")
    [probabilities] = plain_probabilities(model, [torch.stack([backbone.transform.prepare(image) for image in images])])
    paths = [f"{number}.png" for number in range(4)]
    ids = [sample_id((data / "raw/first" / path).read_bytes()) for path in paths]
    table = pd.DataFrame({"sample_id": ids, "batch": "first", "path": paths, "target": "label", "label": "dog"})
    table["candidate_label_probability"] = probabilities[:, NAMES.index("dog")].numpy()
    table.to_parquet(data / "evaluation/predictions.parquet")
    digest = digests(data / "models/candidate")["model_sha256"]
    write_json(data / "evaluation/metrics.json", {"label": {"candidate": {"accuracy": 0.75, "recall": {}}}})
    write_json(data / "evaluation/subject.json", {"candidate": digest})
    write_json(data / "regression/verdict.json", {"verdict": "accepted", "candidate": digest, "rules": []})

    def locked(name):
        return [{"path": f"data/{name}", "hash": "md5", "md5": hash_of(data / name)}]

    deps = [*locked("models/candidate"), *locked("models/baseline.json")]
    stages = {"evaluate": {"cmd": "true", "deps": deps, "outs": locked("evaluation")}}
    (copy / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), "utf-8")
    dvc(copy, "repro", "digest")
    dvc(copy, "commit", "--force", "regression")
    commit(copy, "first run")
    return copy


@pytest.fixture
def project(evaluated, tmp_path):
    copy = tmp_path / "project"
    copied(evaluated, copy)
    return copy


@pytest.fixture(scope="module")
def promoted(evaluated, tmp_path_factory):
    """A project whose first candidate is in use. Copy it, never change it."""
    copy = tmp_path_factory.mktemp("promoted") / "project"
    copied(evaluated, copy)
    assert "agrees with evaluate on 4 predictions" in promote(copy)
    return copy


@pytest.fixture
def in_use(promoted, tmp_path):
    copy = tmp_path / "project"
    copied(promoted, copy)
    return copy


@pytest.fixture(scope="module")
def forced(promoted, dvc, tmp_path_factory):
    """`promoted`, pushed, after another candidate was forced into use. Copy it, never change it."""
    copy = tmp_path_factory.mktemp("forced") / "project"
    copied(promoted, copy)
    dvc(copy, "push")
    change_candidate(copy)
    promote(copy, "--force", "--why", "the camera changed")
    return copy


@pytest.fixture
def second_in_use(forced, tmp_path):
    copy = tmp_path / "project"
    copied(forced, copy)
    return copy


@pytest.fixture
def first(promoted):
    """The digest of the model that was in use first."""
    return digest_in_use(promoted)


def test_promotion_is_logged_committed_and_tagged(promoted):
    [entry] = log_of(promoted)
    candidate = digests(promoted / "data/models/candidate")
    assert {key: entry[key] for key in candidate} == candidate
    assert (entry["action"], entry["verdict"], entry["forced"], entry["why"]) == ("promote", "accepted", False, None)
    assert entry["previous"] is None
    assert entry["metrics"] == {"label": {"accuracy": 0.75}}
    assert f"{entry['latency_milliseconds']:.1f} ms for one sample" in entry["smoke"]
    assert git("status", "--porcelain", folder=promoted) == ""
    assert git("tag", "--points-at", "HEAD", folder=promoted).split() == ["classifier@v1.0.0"]
    assert digest_in_use(promoted) == candidate["model_sha256"]


def test_promotion_that_a_hook_of_another_repository_starts_is_recorded_in_this_one(project, tmp_path):
    other = tmp_path / "other"
    git("init", "--quiet", other)
    hook = other / ".git/hooks/post-commit"
    hook.write_text(
        f"#!/bin/sh\ncd {project} && exec {sys.executable} -m flows.promote > {tmp_path}/said 2>&1\n", "utf-8"
    )
    hook.chmod(0o755)
    git("commit", "--quiet", "--allow-empty", "-m", "theirs", folder=other)
    assert "in use now: " in (tmp_path / "said").read_text("utf-8")
    assert git("log", "-1", "--format=%s", folder=project).startswith("promote ")
    assert git("tag", folder=project).split() == ["classifier@v1.0.0"]
    assert (git("tag", folder=other), git("rev-list", "--count", "HEAD", folder=other)) == ("", "1\n")


def test_promoting_what_is_in_use_changes_nothing(in_use):
    assert "in use already" in promote(in_use)
    assert len(log_of(in_use)) == 1


def test_tag_that_a_clone_lacks_is_made_where_the_model_is_in_use_already(in_use):
    """The merge of a branch on which it was promoted leads to this."""
    git("tag", "--delete", "classifier@v1.0.0", folder=in_use)
    promote(in_use)
    assert git("tag", "--points-at", "HEAD", folder=in_use).split() == ["classifier@v1.0.0"]


def test_candidate_of_other_weights_is_refused(in_use):
    before = digest_in_use(in_use)
    change_candidate(in_use)
    assert "the verdict is about another candidate: run `dvc repro` again" in promote(in_use, status=1)
    assert digest_in_use(in_use) == before
    assert not (in_use / "data/models/.promotion").exists()


def test_candidate_of_another_description_is_refused(project):
    describe_candidate(project, classes={"label": NAMES[::-1]})
    refused = promote(project, status=1)
    assert "data/models/candidate changed after the verdict: run `dvc repro` again" in refused


def test_verdict_that_was_written_by_hand_is_refused(project):
    path = project / "data/regression/verdict.json"
    verdict = json.loads(path.read_text("utf-8"))
    change(path, json.dumps(verdict | {"rules": ["none"]}))
    assert "data/regression changed after the verdict" in promote(project, status=1)


@pytest.mark.parametrize(
    ("name", "before", "after", "changed"),
    [
        ("params.yaml", "min_accuracy: null ", "min_accuracy: 0.99 ", "params.yaml"),
        ("tests/regression/golden.csv", "sample_id", "sample_id ", "tests/regression"),
        ("data/models/baseline.json", "{}", "{ }", "data/models/baseline.json"),
    ],
)
def test_verdict_under_other_rules_is_refused(project, name, before, after, changed):
    text = (project / name).read_text("utf-8")
    assert before in text
    change(project / name, text.replace(before, after))
    assert f"{changed} changed after the verdict" in promote(project, status=1)


def test_verdict_that_compares_with_another_model_in_use_is_refused(project):
    """A person forced it in since; the gate compared nothing with it."""
    candidate = project / "data/models/candidate"
    kept = shutil.copytree(candidate, project.with_name("kept"))
    change_candidate(project)
    promote(project, "--force", "--why", "the camera changed")
    shutil.rmtree(candidate)
    shutil.copytree(kept, candidate)
    refused = promote(project, status=1)
    assert f"the verdict compares with no model, and {digest_in_use(project)[:12]} is in use" in refused


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_damaged_verdict_and_record_are_named(project, content):
    for name in ("data/regression/verdict.json", "data/models/baseline.json"):
        path = project / name
        before = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_text(content, "utf-8")
        assert name in promote(project, status=1)
        path.write_bytes(before)


def test_forced_candidate_of_another_description_has_no_verdict_in_the_log(project):
    describe_candidate(project, temperatures={"label": 1.5})
    promote(project, "--force", "--why", "too sure of itself")
    assert (log_of(project)[-1]["verdict"], log_of(project)[-1]["metrics"]) == (None, None)


@pytest.fixture(scope="module")
def put_in_use(evaluated, dvc, tmp_path_factory):
    """A project with a promoted candidate: no file of its run was committed, v4 was taken, DVC stages files itself."""
    copy = tmp_path_factory.mktemp("put-in-use") / "project"
    copied(evaluated, copy)
    with (copy / "dvc.lock").open("a") as lock:
        lock.write("# as the run left it\n")
    with (copy / "data/decisions.jsonl").open("a") as decisions:
        decisions.write("\n")
    git("tag", "classifier@v4.0.0", folder=copy)
    dvc(copy, "config", "--local", "core.autostage", "true")
    promote(copy)
    return copy


def test_commit_of_a_promotion_has_what_says_how_the_model_was_made_and_judged(put_in_use):
    """Even if nobody committed it before."""
    committed = git("show", "--name-only", "--format=", "classifier@v5.0.0^{}", folder=put_in_use).split()
    assert {"dvc.lock", "data/decisions.jsonl"} <= set(committed)


def test_version_whose_tag_is_taken_is_skipped(put_in_use):
    assert git("tag", "--points-at", "HEAD", folder=put_in_use).split() == ["classifier@v5.0.0"]


def test_nothing_stays_staged_where_dvc_stages_files_itself(put_in_use):
    assert git("status", "--porcelain", folder=put_in_use) == ""


def test_run_that_finishes_another_does_nothing_else(second_in_use, first):
    """The first request has been carried out already."""
    lock = second_in_use / ".git/index.lock"
    with lock.open("w") as held, running("sleep", "600", stdin=held):  # a program is at work on the index
        assert f"{first[:12]} is in use, but git refuses" in promote(second_in_use, "--rollback", status=1)
    lock.unlink()
    assert "nothing else was done" in promote(second_in_use)
    assert digest_in_use(second_in_use) == first
    assert [each["action"] for each in log_of(second_in_use)] == ["promote", "promote", "rollback"]


@pytest.mark.parametrize(
    "arguments", [["--force"], ["--force", "--why", " "], ["--rollback", "--force", "--why", "so"]]
)
def test_force_and_reason_belong_together(project, arguments):
    assert promote(project, *arguments, status=2)
    assert not (project / "data/models/baseline").exists()


def test_forced_candidate_that_predicts_otherwise_than_evaluate_is_refused(project):
    path = project / "data/evaluation/predictions.parquet"
    table = pd.read_parquet(path)
    path.unlink()
    table.assign(candidate_label_probability=table["candidate_label_probability"] / 2).to_parquet(path)
    refused = promote(project, "--force", "--why", "in a hurry", status=1)
    assert "the bundle gives probabilities that differ from data/evaluation/predictions.parquet" in refused
    assert not (project / "data/models/baseline").exists()


def test_forced_candidate_that_does_not_load_is_refused(in_use):
    change_candidate(in_use)
    path = in_use / "data/models/candidate/model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "is not a whole bundle" in promote(in_use, "--force", "--why", "in a hurry", status=1)


def test_forced_model_is_recorded_and_rolled_back_to_the_one_before_and_others_fetch_it(
    second_in_use, first, dvc, tmp_path
):
    in_use = second_in_use
    second = digest_in_use(in_use)
    assert second != first
    entry = log_of(in_use)[-1]
    assert (entry["forced"], entry["why"], entry["verdict"], entry["previous"]) == (
        True,
        "the camera changed",
        None,
        first,
    )
    registry = (in_use / "data/classes.json").read_text("utf-8")
    dvc(in_use, "push")
    fetched = tmp_path / "second"
    clone = tmp_path / "clone"
    git("clone", "--quiet", in_use, clone)
    dvc(clone, "artifacts", "get", str(clone), "classifier", "--out", str(fetched))
    assert digests(fetched)["model_sha256"] == second
    shutil.rmtree(in_use / ".dvc/cache")  # so that it comes from the remote
    promote(in_use, "--rollback", "--why", "worse at night")
    assert digest_in_use(in_use) == first
    entry = log_of(in_use)[-1]
    assert (entry["action"], entry["why"], entry["previous"]) == ("rollback", "worse at night", second)
    assert entry["latency_milliseconds"] > 0
    assert (in_use / "data/classes.json").read_text("utf-8") == registry
    assert git("tag", "--points-at", "HEAD", folder=in_use).split() == ["classifier@v3.0.0"]
    dvc(in_use, "artifacts", "get", str(in_use), "classifier", "--out", str(tmp_path / "third"))
    assert digests(tmp_path / "third")["model_sha256"] == first
    dvc(in_use, "status", "data/models/baseline.dvc")
    promote(in_use, "--rollback", second[:8])
    assert digest_in_use(in_use) == second
    assert "expected one of those that were in use" in promote(in_use, "--rollback", "0" * 20, status=1)


@pytest.mark.parametrize("damage", ["gone", "changed", "half"])
def test_rollback_needs_no_whole_model_in_use(second_in_use, first, damage):
    folder = second_in_use / "data/models/baseline"
    if damage == "gone":
        shutil.rmtree(folder)
    elif damage == "half":
        (folder / "model.json").unlink()
    else:
        change(folder / "model.json", "{}")
    assert "v2 is in use already" in promote(second_in_use, "--rollback", "v2", status=1)
    promote(second_in_use, "--rollback")
    assert digest_in_use(second_in_use) == first


def test_damaged_model_in_use_is_put_there_again(in_use):
    first = digest_in_use(in_use)
    change(in_use / "data/models/baseline/model.json", "{}")
    promote(in_use, "--force", "--why", "the disk was damaged")
    assert digest_in_use(in_use) == first


def test_damaged_registry_is_named(project):
    change(project / "data/classes.json", '{"version": 1, "classes": []}')
    assert "data/classes.json is damaged" in promote(project, "--force", "--why", "so", status=1)


def test_rollback_writes_nowhere_else_whatever_the_log_says(second_in_use, first):
    log = second_in_use / "data/models/promotions.jsonl"
    log.write_text(log.read_text("utf-8").replace('"path": "baseline"', '"path": "../../../elsewhere"'), "utf-8")
    promote(second_in_use, "--rollback")
    assert digest_in_use(second_in_use) == first
    assert not (second_in_use.parent / "elsewhere").exists()
    assert not (second_in_use / "elsewhere").exists()
