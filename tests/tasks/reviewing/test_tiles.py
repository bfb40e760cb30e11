"""Tiles come from what the stages wrote, whichever of them ran, a tile a sample."""

import pandas as pd
import pytest

from tasks.data.admission.quarantine import LEDGER_COLUMNS
from tasks.data.health.leaks import COLUMNS as LEAK_COLUMNS
from tasks.data.manifest.tables import write_text_table
from tasks.machine.files import write_json
from tasks.reviewing.tiles import gather

FOLDERS = ("validated", "audit", "health", "evaluation", "chosen")


@pytest.fixture
def project(tmp_path):
    """A manifest of eight samples, s0 to s7, of which s7 waits in the pool, and a ledger of two."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    manifest = pd.DataFrame(
        {
            "sample_id": [f"s{number}" for number in range(8)],
            "batch": "first",
            "path": [f"cat/{number}.png" for number in range(8)],
            "split": ["train"] * 5 + ["heldout"] * 2 + ["pool"],
            "label": ["cat"] * 7 + [None],
        }
    )
    rows = [
        ["first", "a.png", "q0", "class_in_probation", "it waits"],
        ["first", "b.png", "q1", "unreadable", "it is cut"],
        ["first", "c.png", "s0", "exact_duplicate", "the same bytes"],
        ["first", "d.png", "", "empty_file", "no bytes"],
    ]
    write_text_table(tmp_path / "validated/quarantine.csv", pd.DataFrame(rows, columns=LEDGER_COLUMNS))

    def collect(in_use=None):
        return gather(manifest, ["label"], **{name: tmp_path / name for name in FOLDERS}, in_use=in_use)

    return tmp_path, collect


def told(tiles):
    return [(tile.sample_id, [reason.kind for reason in tile.reasons]) for tile in tiles]


def test_after_validate_alone_the_quarantined_are_shown_but_for_copies_and_what_may_harm_a_decoder(project):
    _, collect = project
    tiles = collect()
    assert told(tiles) == [("q0", ["quarantined"]), ("q1", ["quarantined"])]
    assert [tile.is_shown for tile in tiles] == [True, False]


def test_sample_with_several_reasons_has_one_tile_and_kinds_come_in_their_order(project):
    folder, collect = project
    suspects = pd.DataFrame(
        [
            ["outlier", "s1", "", "", "", 0.9, "far"], ["label_error", "s2", "label", "cat", "dog", 0.8, "97 % sure"],
            ["newkind", "s3", "", "", "", 0.1, "odd"], ["outlier", "gone", "", "", "", 0.9, "far"],
        ],
        columns=["kind", "sample_id", "target", "label", "suggested", "score", "detail"],
    )  # fmt: skip
    write_text_table(folder / "health/suspects.csv", suspects)
    leak = ["first", "cat/1.png", "s1", "train", "first", "cat/5.png", "s5", 0.99, 2]
    write_text_table(folder / "audit/leaks.csv", pd.DataFrame([leak], columns=LEAK_COLUMNS))
    tiles = collect()
    assert told(tiles) == [
        ("s2", ["label_error"]), ("s1", ["outlier", "near_duplicate"]), ("q0", ["quarantined"]),
        ("q1", ["quarantined"]), ("s3", ["newkind"]),
    ]  # fmt: skip
    assert (tiles[0].labels, tiles[0].reasons[0].suggested) == ({"label": "cat"}, "dog")
    assert (tiles[1].twin, tiles[1].twin_labels) == ("s5", {"label": "cat"})


def test_what_is_to_be_labelled_next_has_the_answer_as_its_suggestion_until_it_has_a_label(project):
    folder, collect = project
    chosen = pd.DataFrame(
        {"file": "x", "label": "", "answer": "dog", "why": "the model is in doubt", "sample_id": ["s7", "s1"]}
    )
    write_text_table(folder / "chosen/labels.csv", chosen)
    [tile] = [tile for tile in collect() if tile.reasons[0].kind == "next_to_label"]
    assert (tile.sample_id, tile.labels, tile.reasons[0].suggested) == ("s7", {}, "dog")


@pytest.mark.parametrize(
    ("in_use", "sample", "whose"),
    [("b", "s5", "the model in use"), ("c", "s6", "the model in use"), (None, "s6", "the candidate")],
)
def test_errors_are_those_of_the_model_in_use_or_else_of_the_candidate(project, in_use, sample, whose):
    folder, collect = project
    predictions = pd.DataFrame(
        {"sample_id": ["s5", "s6"], "target": "label", "label": "cat", "baseline": ["dog", "cat"],
         "candidate": ["cat", "dog"]}
    )  # fmt: skip
    predictions.to_parquet(folder / "evaluation/predictions.parquet")
    write_json(folder / "evaluation/subject.json", {"candidate": "c", "baseline": "b"})
    [tile] = [tile for tile in collect(in_use) if tile.reasons[0].kind == "error"]
    assert tile.sample_id == sample
    assert tile.reasons[0].detail == f"held out: {whose} answers 'dog'"


@pytest.mark.parametrize(
    ("content", "message"),
    [("file;sample_id;why\na;s7;doubt\n", "separated by semicolons"), ("file,why\na,doubt\n", "expected sample_id")],
)
def test_table_of_what_to_label_that_a_spreadsheet_saved_otherwise_is_named(project, content, message):
    folder, collect = project
    (folder / "chosen/labels.csv").write_text(content, "utf-8")
    with pytest.raises(ValueError, match=message):
        collect()
