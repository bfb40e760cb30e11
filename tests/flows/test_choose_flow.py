"""The backbone of a ranking is written into params.yaml, and nothing else of the file changes."""

import json

import pytest
import yaml

from flows.choose import main, write
from flows.workspace.parameters import PARAMS


@pytest.fixture
def choice(workspace):
    """A ranking of the section backbone behind the same at 64 px."""
    own = yaml.safe_load(PARAMS.read_text("utf-8"))["backbone"]
    better = own | {"image_size": 64, "features": "pooled"}
    content = {
        "candidates": [
            {"number": 1, "name": "larger", "backbone": better},
            {"number": 0, "name": "own", "backbone": own},
        ],
        "recommended": {"number": 1, "why": "it has the best score, 0.912"},
    }
    folder = workspace / "data/choice"
    folder.mkdir(parents=True)
    (folder / "choice.json").write_text(json.dumps(content), "utf-8")
    return folder


def test_recommended_backbone_is_written_with_the_reason_and_comments_stay(choice):
    before = PARAMS.read_text("utf-8").splitlines()
    write(choice, 0)
    after = PARAMS.read_text("utf-8").splitlines()
    backbone = yaml.safe_load(PARAMS.read_text("utf-8"))["backbone"]
    assert (backbone["image_size"], backbone["features"]) == (64, "pooled")
    assert after.count("  # graftline choose: it has the best score, 0.912") == 2
    assert len(after) == len(before) + 2
    assert len(set(before) - set(after)) == 2


def test_another_rank_is_taken_by_its_number_and_undoes_the_first(choice):
    own = yaml.safe_load(PARAMS.read_text("utf-8"))
    write(choice, 1)
    write(choice, 2)
    assert yaml.safe_load(PARAMS.read_text("utf-8")) == own
    assert "it has the best score" not in PARAMS.read_text("utf-8")


def test_backbone_in_params_stays_as_it_is(choice):
    before = PARAMS.read_bytes()
    write(choice, 2)
    assert PARAMS.read_bytes() == before


def test_accepting_before_ranking_or_a_rank_that_is_not_there_is_refused(choice, workspace):
    with pytest.raises(ValueError, match="--accept is 3, expected a rank from 1 to 2"):
        write(choice, 3)
    with pytest.raises(ValueError, match="run `graftline choose` first"):
        write(workspace / "data/elsewhere", 0)


def test_interrupted_ranking_ends_in_one_line(monkeypatch, capsys):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.choose.run", stop)
    with pytest.raises(SystemExit) as exited:
        main([])
    assert exited.value.code == 130
    assert capsys.readouterr().err.startswith("\nstopped: the ranking before stays")
