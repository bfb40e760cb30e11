"""Texts with few labels teach the whole encoder which of them belong together."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import finetune
from tasks.machine import cores
from tasks.models.bundle import load_bundle
from tasks.stage.params import load_params
from tasks.targets.kinds import targets_of
from tasks.training.finetuning.few_labels import fit_heads, learns_from_pairs
from tasks.training.heads.mixture import FEW_LABELS
from tests.kit.killed import KilledAfter, KilledError

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")

from tests.tasks.training.finetuning.test_tuning_of_texts import Project, arguments, project  # noqa: F401

PARAMS = load_params(Path(__file__).parents[4] / "params.yaml")
ONE = targets_of({"topic": ["early", "late"]})


def asked(targets=ONE, *, num=FEW_LABELS, missing=0, head="logistic", **changes):
    labels = torch.zeros(num, len(targets))
    labels[:missing] = torch.nan
    options = replace(PARAMS.finetune, **changes)
    return learns_from_pairs(targets, labels, options, replace(PARAMS.train_head, head=head))


def test_pairs_teach_where_every_target_is_of_classes_and_has_few_labels():
    assert asked()
    assert not asked(num=2 * FEW_LABELS)
    assert asked(num=2 * FEW_LABELS, missing=1)
    both = ONE | targets_of({"stars": {"kind": "number", "unit": "stars"}})
    assert not asked(both)


def test_whoever_asks_for_something_else_gets_no_pairs():
    assert not asked(pairs="never")
    assert not asked(align="coral")
    assert not asked(method="lora")
    assert not asked(head="centroid")


def test_head_of_vectors_far_apart_answers_them_and_leaves_out_what_has_no_label():
    vectors = np.repeat(np.eye(2, 4, dtype=np.float32), 6, axis=0) + 0.01
    labels = torch.tensor([[0.0]] * 6 + [[1.0]] * 5 + [[torch.nan]])
    layers = fit_heads(ONE, (vectors, labels), (vectors, labels), PARAMS.train_head)
    weight, bias = layers["topic"]
    answers = (torch.from_numpy(vectors) @ weight.T + bias).argmax(dim=1)
    assert answers.tolist() == [0] * 6 + [1] * 6


@pytest.fixture
def few(arguments, project):  # noqa: F811
    """Return all that `tasks.finetune.run` takes, with 16 texts in train, and a rate that moves the small encoder."""
    from tasks.data.manifest.tables import write_table

    is_kept = (project.rows["split"] == "val") | (np.arange(len(project.rows)) < 16)
    write_table(project.folder / "manifest/first.parquet", project.rows[is_kept].reset_index(drop=True))
    return arguments | {"finetune": replace(arguments["finetune"], harm_significance=1e-6)}


def run(few, name, **changes):
    folder = few["raw"].parent
    options = replace(few["finetune"], **changes)
    finetune.run(**few | {"finetune": options}, out=folder / name, curves=folder / f"{name}-curves")
    return load_bundle(folder / name)


def files(few, name):
    return [(few["raw"].parent / name / file).read_bytes() for file in ("model.safetensors", "model.json")]


def test_whole_encoder_is_trained_and_the_candidate_says_so(few, project, caplog):  # noqa: F811
    caplog.set_level("INFO")
    model, lineage = run(few, "candidate")
    assert "learns from pairs of texts" in caplog.text
    assert lineage["stage"] == "finetuned"
    assert lineage["params"]["pairs"] == "auto"
    before = project.model().backbone.state_dict()
    moved = [name for name, tensor in model.backbone.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any("embeddings" in name for name in moved)


def test_project_with_pairs_turned_off_names_no_pairs_and_trains_its_last_layers(few, project):  # noqa: F811
    model, lineage = run(few, "candidate", pairs="never")
    assert "pairs" not in lineage["params"]
    before = project.model().backbone.state_dict()
    same = [name for name, tensor in model.backbone.state_dict().items() if torch.equal(tensor, before[name])]
    assert any("embeddings" in name for name in same)


def test_same_bytes_on_one_core_and_on_two_after_a_kill(few, monkeypatch):
    monkeypatch.setattr(cores, "num_cores", lambda: 1)
    run(few, "undisturbed")
    monkeypatch.setattr(cores, "num_cores", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "Checkpoint", KilledAfter)
        with pytest.raises(KilledError):
            run(few, "killed")
    shutil.rmtree(few["raw"].parent / "killed", ignore_errors=True)
    run(few, "killed")
    assert files(few, "killed") == files(few, "undisturbed")


def test_few_labels_train_from_the_backbone_although_a_model_is_in_use(few, caplog):
    from tasks.machine.files import write_json

    caplog.set_level("INFO")
    write_json(few["start_record"], {})
    _, lineage = run(few, "candidate", start="in_use")
    assert "few labels" in lineage["start"]["reason"]
