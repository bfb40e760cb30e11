"""A project of texts, from two tables to an accepted candidate that predicts: the chain that images have."""

import csv
import json

import pytest
from safetensors.torch import save_file

from flows.workspace import paths
from flows.workspace.parameters import set_parameters
from tasks.demo.tickets import run as write_tickets
from tests.kit.programs import run_module

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")

BATCH = "tickets-summer"
PARAMETERS = {
    "modality": "text", "backbone.weights": "backbones/tiny", "backbone.max_tokens": 64, "finetune.epochs": 1,
    "finetune.unfreeze": 1,
}  # fmt: skip


def put_encoder(folder):
    """Write an encoder with random weights, which a real one would be in its place."""
    from tests.tasks.models.test_encoder import encoder
    from tests.tasks.text.test_tokenizer import described

    made = encoder("bert")
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(made.config))
    (folder / "tokenizer.json").write_bytes(described())
    save_file(made.network.state_dict(), folder / "model.safetensors")


def test_texts_of_a_table_become_an_accepted_candidate_that_predicts(workspace, dvc, tmp_path):
    put_encoder(workspace / "backbones/tiny")
    set_parameters({"key": key, "value": value, "why": "a test is short"} for key, value in PARAMETERS.items())
    write_tickets(out=paths.raw() / BATCH)
    paths.batches().write_text(f"batches: [{BATCH}]\n")
    dvc(workspace, "repro")
    verdict = json.loads(paths.verdict().read_text())
    assert verdict["verdict"] == "accepted"
    counts = json.loads(paths.validation().read_text())["batches"][BATCH]
    with (paths.raw() / BATCH / "tickets.csv").open(newline="") as file:
        num_rows = len(list(csv.DictReader(file)))
    assert counts["in"] == num_rows == sum(counts.values()) - counts["in"]
    assert counts["pool"] == 20

    questions = tmp_path / "questions.csv"
    questions.write_text('text\n"The parcel\nnever came"\nI forgot my password\n""\n')
    answers = tmp_path / "answers.csv"
    run_module("tasks.predict", paths.candidate(), questions, "-o", answers)
    with answers.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert [bool(row["label"]) for row in rows] == [True, True, False]
    assert "up to date" in dvc(workspace, "repro")
