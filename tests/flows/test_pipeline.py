"""DVC runs what is stale and nothing else, on a real project."""

import io
import json
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from flows.workspace.working_copy import commit
from tasks.data.admission.options import Split
from tasks.data.admission.splits import side_of
from tasks.data.samples.samples import sample_id
from tests.kit.programs import git, run_module
from tests.kit.sharing import copied

ROOT = Path(__file__).parents[2]


def stages_run(printed: str) -> list[str]:
    return re.findall(r"^Running stage '(.+)':$", printed, flags=re.MULTILINE)


def test_second_run_does_nothing(project, dvc):
    assert stages_run(dvc(project, "repro")) == []


def test_change_of_a_finetuning_parameter_reruns_from_finetune_on(undisturbed):
    printed = (undisturbed / "printed").read_text("utf-8")
    assert re.findall(r"Running stage '(.+)':", printed) == ["finetune", "adapt", "evaluate", "regression", "report"]


def test_run_ends_with_the_page_and_the_next_command(undisturbed):
    printed = (undisturbed / "printed").read_text("utf-8")
    assert "the page is data/report/index.html; next: `graftline promote` puts the candidate in use\n" in printed


def test_forced_run_gives_the_same_lock_byte_for_byte_and_a_clean_tree(project, dvc):
    dvc(project, "config", "--local", "cache.type", "hardlink")
    before = (project / "dvc.lock").read_bytes()
    assert len(stages_run(dvc(project, "repro", "--force"))) == 12
    assert (project / "dvc.lock").read_bytes() == before
    assert git("status", "--porcelain", folder=project) == ""


@pytest.mark.parametrize("shell", ["fish", "tcsh", "dash"])
def test_stage_runs_in_the_shell_of_any_login_and_keeps_its_vectors_where_the_environment_says(
    project, dvc, tmp_path, monkeypatch, shell
):
    if not (place := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    monkeypatch.setenv("SHELL", place)
    monkeypatch.setenv("GRAFTLINE_STORE", str(tmp_path / "a place apart"))
    before = (project / "dvc.lock").read_bytes()
    dvc(project, "repro", "--single-item", "--force", "embed")
    assert (project / "dvc.lock").read_bytes() == before
    assert (tmp_path / "a place apart/graftline-store.json").is_file()


@pytest.fixture(scope="module")
def mixed(finished, tmp_path_factory, dvc, digits):
    """The project after a run with batches of every layout beside its first one, and what DVC printed. Change neither.

    DVC makes symbolic links of the new batches, and of all that this run makes. The batch `copy` holds a mirrored copy
    of a held-out sample, which is itself drawn to train.
    """
    project = copied(finished, tmp_path_factory.mktemp("mixed") / "project")
    raw = project / "data/raw"
    pictures = {name: sorted((digits / name).iterdir())[30:90] for name in map(str, range(10))}
    (raw / "table").mkdir()
    rows = ["path,label,group"]
    for name, paths in pictures.items():
        for path in paths[:30]:
            shutil.copy(path, raw / "table" / f"{name}-{path.name}")
            rows.append(f"{name}-{path.name},{name},writer {path.stem[-1]}")
    (raw / "table/labels.csv").write_text("\n".join(rows), "utf-8")
    images = [{"bytes": path.read_bytes(), "path": path.name} for paths in pictures.values() for path in paths[30:]]
    labels = [int(name) for name, paths in pictures.items() for _ in paths[30:]]
    pq.write_table(pa.table({"image": images, "label": labels}), raw / "rows.parquet", row_group_size=50)
    put_mirrored_copy(project)
    (project / "data/batches.yaml").write_text('batches: [first, "table", "rows.parquet", copy]\n', "utf-8")
    dvc(project, "config", "--local", "cache.type", "symlink")
    dvc(project, "add", *(f"data/raw/{batch}" for batch in ("table", "rows.parquet", "copy")))
    assert (raw / "table/labels.csv").is_symlink()
    return project, dvc(project, "repro")


def put_mirrored_copy(project):
    """Put the mirrored copy of a held-out sample into a batch: the first whose copy is drawn to train."""
    split = Split(**json.loads((project / "data/validated/split.json").read_text("utf-8")))
    rows = pd.read_parquet(project / "data/validated/manifest/first.parquet")
    for original in rows[rows["split"] == "heldout"].itertuples():
        mirrored = io.BytesIO()
        with Image.open(project / "data/raw/first" / original.path) as picture:
            ImageOps.mirror(picture).save(mirrored, "PNG")
        if side_of(sample_id(mirrored.getvalue()), split) == "train":
            break
    folder = project / "data/raw/copy" / original.label
    folder.mkdir(parents=True)
    (folder / original.path.replace("/", "-")).write_bytes(mirrored.getvalue())


def test_new_batches_are_scanned_and_embedded_alone(mixed):
    run = stages_run(mixed[1])
    new = ("copy", "rows.parquet", "table")
    assert sorted(run[:3]) == [f"scan@{batch}" for batch in new]
    assert run[3] == "validate"
    assert sorted(run[4:7]) == [f"embed@{batch}" for batch in new]
    assert run[7:] == ["audit", "train_head", "finetune", "adapt", "evaluate", "regression", "report"]


def test_batches_of_every_layout_mix_in_one_model(mixed, dvc):
    project, _ = mixed
    counts = json.loads((project / "data/validated/validation.json").read_text("utf-8"))["batches"]
    used = {batch: (count["in"], count["used"]) for batch, count in counts.items()}
    assert used == {"first": (240, 240), "table": (300, 300), "rows.parquet": (300, 300), "copy": (1, 1)}
    manifest = pd.read_parquet(project / "data/validated/manifest/table.parquet")
    assert manifest.groupby("group")["split"].nunique().eq(1).all()
    assert json.loads((project / "data/evaluation/subject.json").read_text("utf-8"))["num_heldout"] > 100
    assert stages_run(dvc(project, "repro")) == []


def test_mirrored_copy_of_a_held_out_sample_leaves_training_and_is_told(mixed):
    project, _ = mixed
    [copy] = (project / "data/raw/copy").rglob("*.png")
    rows = pd.read_parquet(project / "data/validated/manifest/first.parquet").set_index("path")
    original = copy.name.replace("-", "/", 1)
    leaks = pd.read_csv(project / "data/audit/leaks.csv")
    assert original in set(leaks.loc[leaks["path"] == f"{copy.parent.name}/{copy.name}", "twin_path"])
    predictions = pd.read_parquet(project / "data/evaluation/predictions.parquet")
    assert rows["sample_id"][original] in set(predictions.loc[predictions["is_leaked"], "sample_id"])
    measured = json.loads((project / "data/evaluation/metrics.json").read_text("utf-8"))["label"]["candidate"]
    assert measured["num_leaked"] == predictions["is_leaked"].sum()
    assert 0 <= measured["accuracy_without_leaks"] <= 1


def test_fresh_clone_adds_a_batch_without_the_raw_data_of_the_old_one(finished, tmp_path, dvc, put_batch):
    clone = tmp_path / "clone"
    git("clone", "--quiet", finished, clone)
    dvc(clone, "pull", "digest", "scan", "validate", "embed")
    put_batch(clone, "second", first=30)
    run = stages_run(dvc(clone, "repro", "--pull", "--allow-missing", "train_head"))
    assert run == ["scan@second", "validate", "embed@second", "audit", "train_head"]
    assert not (clone / "data/raw/first").exists()
    used = [pd.read_parquet(clone / f"data/validated/manifest/{batch}.parquet") for batch in ("first", "second")]
    assert [len(rows) for rows in used] == [240, 240]


def test_stage_refuses_to_run_on_some_of_the_batches(finished, tmp_path, dvc, put_batch):
    clone = tmp_path / "clone"
    git("clone", "--quiet", finished, clone)
    dvc(clone, "pull", "digest")
    put_batch(clone, "second", first=30)
    printed = dvc(clone, "repro", "--allow-missing", "train_head", status=255)
    assert "dvc pull digest scan validate embed" in printed


def test_experiment_is_compared_with_the_commit_it_started_from(project, dvc):
    dvc(project, "exp", "run", "--set-param", "evaluate.perturbations=[recompressed]")
    changed = json.loads(dvc(project, "metrics", "diff", "--json", "HEAD"))["data/evaluation/metrics.json"]
    assert "label.candidate.unchanged.recompressed" in changed
    assert "label.candidate.accuracy" not in changed
    shown = json.loads(dvc(project, "exp", "show", "--json"))
    assert [len(revision["experiments"] or []) for revision in shown] == [0, 1]  # the workspace, the commit
    docs = (ROOT / "docs/experiments.md").read_text("utf-8")
    [command] = re.findall(r"^dvc (exp show .*?)\n```", docs, flags=re.MULTILINE | re.DOTALL)
    printed = dvc(project, *shlex.split(command.replace("\\\n", " ")), "--csv")
    columns = next(line for line in printed.splitlines() if "rev" in line).split(",")
    assert {"label.candidate.accuracy", "evaluate.perturbations"} <= set(columns)
    assert len(columns) <= 10


def test_plots_are_drawn_from_what_the_stages_wrote(project, dvc):
    dvc(project, "plots", "show", "--out", "plots")
    page = (project / "plots/index.html").read_text("utf-8")
    for title in ("Loss of fine-tuning", "Confusion of the candidate", "Reliability of the candidate"):
        assert title in page


def test_change_of_code_reruns_the_stages_that_run_it_and_a_comment_reruns_none(project, dvc):
    wording = project / "tasks/page/wording.py"
    text = wording.read_text("utf-8")
    wording.write_text(f"{text}\n# a comment\n", "utf-8")
    assert stages_run(dvc(project, "repro")) == ["digest"]
    wording.write_text(f"{text}\nPATIENCE = 1\n", "utf-8")
    assert stages_run(dvc(project, "repro")) == ["digest", "report"]


def test_change_of_a_gate_tolerance_reruns_regression_and_report_alone(project, dvc, set_param):
    """Though the gate rejects the candidate then: the run fails, and the page can still be drawn."""
    set_param(project, "min_accuracy", 1.0)
    assert stages_run(dvc(project, "repro", status=255)) == ["regression"]
    assert json.loads((project / "data/regression/verdict.json").read_text())["verdict"] == "rejected"
    assert stages_run(dvc(project, "repro", "--ignore-errors", "report")) == ["regression", "report"]
    assert "The candidate is rejected" in (project / "data/report/index.html").read_text("utf-8")


@pytest.fixture(scope="module")
def promoted(finished, tmp_path_factory):
    """The project after its candidate was put in use. Copy it, never change it."""
    project = copied(finished, tmp_path_factory.mktemp("promoted") / "project")
    run_module("flows.promote", cwd=project)
    return project


@pytest.fixture
def in_use(promoted, tmp_path):
    return copied(promoted, tmp_path / "project")


def test_model_in_use_is_compared_on_todays_heldout_samples(in_use, dvc):
    project = in_use
    commit(project, "promoted")
    dvc(project, "push")
    shutil.rmtree(project / "data/models/baseline")
    dvc(project, "config", "--local", "cache.type", "symlink")
    dvc(project, "pull", "data/models/baseline.dvc")
    assert (project / "data/models/baseline/model.safetensors").is_symlink()
    registry = json.loads((project / "data/classes.json").read_text("utf-8"))
    assert registry == {"version": 1, "classes": {"label": [str(digit) for digit in range(10)]}}
    assert stages_run(dvc(project, "repro")) == ["validate", "evaluate", "regression", "report"]
    measured = json.loads((project / "data/evaluation/metrics.json").read_text())["label"]
    assert measured["baseline"]["accuracy"] == measured["candidate"]["accuracy"]
    assert (measured["flips"]["negative"], measured["flips"]["positive"], measured["flips"]["p_value"]) == (0, 0, 1.0)


def test_model_in_use_is_compared_after_a_rotation_on_samples_it_did_not_learn_from(in_use, dvc, set_param):
    project = in_use
    before = Split(**json.loads((project / "data/validated/split.json").read_text("utf-8")))
    set_param(project, "split_salt", "second")
    assert "that neither learned from" in dvc(project, "repro")
    predictions = pd.read_parquet(project / "data/evaluation/predictions.parquet")
    is_shared = [side_of(sample, before) == "heldout" for sample in predictions["sample_id"]]
    assert predictions["is_shared"].tolist() == is_shared
    assert 0 < sum(is_shared) < len(predictions) / 2
    flips = json.loads((project / "data/evaluation/metrics.json").read_text("utf-8"))["label"]["flips"]
    assert flips["num_samples"] == sum(is_shared)
