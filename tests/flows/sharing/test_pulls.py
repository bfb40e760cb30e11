"""What a run in a clone without data pulls: only what the project itself keeps."""

from pathlib import Path

import pytest

from flows.sharing import pulls
from flows.workspace import paths


@pytest.mark.parametrize("pointer", ["--evil.dvc", "../other.dvc", "data/raw/stranger.dvc", "params.yaml"])
def test_pointer_that_is_none_of_the_project_is_not_pulled(workspace, pointer):
    said = []
    assert pulls.pull_missing(pointer, said.append) is False
    assert said == []


def test_pointer_of_a_batch_whose_data_are_here_is_not_pulled(workspace):
    place = Path(paths.raw())
    (place / "first").mkdir(parents=True, exist_ok=True)
    (place / "first.dvc").write_text("outs: []\n", "utf-8")
    assert pulls.pull_missing(f"{place}/first.dvc", print) is False


@pytest.mark.parametrize("model", [paths.baseline(), paths.start()])
def test_model_that_a_stage_misses_is_pulled_unless_it_is_here(workspace, monkeypatch, model):
    pulled, pointer = [], f"{model}.dvc"
    monkeypatch.setattr(pulls, "dvc", lambda *words, log: pulled.append(words))
    assert pulls.pull_missing(pointer, print)
    assert pulled == [("pull", pointer)]
    Path(model).mkdir(parents=True)
    assert not pulls.pull_missing(pointer, print)
