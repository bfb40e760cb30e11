"""The paths of artifacts are those of the dvc.yaml in the current directory."""

import inspect
from pathlib import Path

import pytest

from flows.workspace import paths

PATHS = {
    name: function
    for name, function in inspect.getmembers(paths, inspect.isfunction)
    if function.__module__ == paths.__name__ and inspect.signature(function).return_annotation is Path
}
PUBLIC = sorted(name for name in PATHS if not name.startswith("_"))


@pytest.mark.parametrize("name", PUBLIC)
def test_path_moves_with_dvc_yaml(bare_workspace, name):
    pipeline = bare_workspace / "dvc.yaml"
    before = PATHS[name]()
    assert before.parts[0] == "data"
    pipeline.write_text(pipeline.read_text("utf-8").replace("data/", "elsewhere/"), "utf-8")
    assert PATHS[name]() == Path("elsewhere", *before.parts[1:])


def test_path_is_that_of_the_workspace_that_is_the_current_directory(bare_workspace, monkeypatch):
    assert paths.candidate() == Path("data/models/candidate")
    (bare_workspace / "other").mkdir()
    (bare_workspace / "other/dvc.yaml").write_text(
        "stages:\n  adapt:\n    cmd: exec true --out elsewhere/candidate\n", "utf-8"
    )
    monkeypatch.chdir(bare_workspace / "other")
    assert paths.candidate() == Path("elsewhere/candidate")


def test_files_beside_the_model_in_use_and_the_list_of_batches_follow_them(bare_workspace):
    beside = [paths.baseline_pointer(), paths.promotions(), paths.promotion(), paths.churn()]
    assert [str(path) for path in beside] == [
        "data/models/baseline.dvc",
        "data/models/promotions.jsonl",
        "data/models/.promotion",
        "data/churn.json",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stages: [", "dvc.yaml is not YAML: .*: mend it"),
        ("[]", "dvc.yaml has no `stages`: mend it"),
        ("stages: {}", "dvc.yaml has no stage adapt whose command has --out: mend it"),
        (
            "stages: {adapt: {cmd: exec true --out}}",
            "dvc.yaml has no stage adapt whose command has --out: mend it",
        ),
    ],
)
def test_dvc_yaml_without_the_path_is_refused_in_one_line(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(content, "utf-8")
    with pytest.raises(ValueError, match=message) as error:
        paths.candidate()
    assert "\n" not in str(error.value)


def test_pipeline_without_a_list_of_batches_or_a_model_in_use_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text("stages: {}", "utf-8")
    with pytest.raises(ValueError, match="has no file under `vars`, expected the list of batches"):
        paths.batches()
    with pytest.raises(ValueError, match="has no path under `artifacts`, `classifier`"):
        paths.baseline()


def test_missing_dvc_yaml_is_reported_with_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"there is no dvc.yaml in {tmp_path}: run from the root"):
        paths.raw()
