"""The verbs on texts, one after the other: what they write and say holds no word of a text."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tasks import scan
from tasks.data.manifest.manifest import read_manifest
from tasks.data.samples.samples import Samples
from tasks.machine.files import read_json
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.prediction.forms import ask_forms
from tasks.stage.params import load_params
from tasks.text.decode import decode_sample, read
from tasks.training.finetuning.grafting import graft
from tests.kit.chain import ROOT, Chain, logged
from tests.tasks.models.test_encoder import encoder

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")

WORD = "zyxomma"  # stands in every text, and in no code


@pytest.fixture(scope="module")
def chain(tmp_path_factory, great_expectations) -> Chain:
    """A finished chain; `said` has what it logged."""
    params = load_params(ROOT / "params.yaml")
    made = Chain(
        tmp_path_factory.mktemp("texts"),
        modality="text",
        validate_=replace(params.validate_, min_samples_per_class=5),
        train_head=replace(params.train_head, l2_strengths=[0.01]),
        evaluate=replace(params.evaluate, num_resamples=20, perturbations=["lowercase", "folded", "mistyped"]),
    )
    data = made.data
    write_batch(data / "raw/first")
    backbone = encoder("bert")
    (data / "backbone").mkdir()
    torch.manual_seed(0)
    lineage = {"fingerprint": backbone.fingerprint()}
    save_bundle(data / "backbone", Classifier(backbone, {"label": ["x", "y"]}).eval(), lineage=lineage)
    with logged() as lines:
        made.do("scan", "validate", "embed", "audit", "train_head")
        (data / "candidate").mkdir()
        model = graft(backbone, data / "head", targets=read_json(data / "validated/classes.json"))
        save_bundle(data / "candidate", model, lineage={"stage": "head"})
        made.do("evaluate")
    made.said = "\n".join(lines)
    return made


def write_batch(folder: Path) -> None:
    """Write 60 texts of two classes, a near-duplicate of each third, and files that cannot be used."""
    for number in range(60):
        label, letters = ("early", "a b c d e") if number % 2 else ("late", "f g h i j")
        text = f"{letters} {WORD} {number} " + " ".join("abcdefghij"[int(digit)] for digit in str((number + 2) ** 20))
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:02d}.txt").write_text(text, "utf-8")
        if number % 3 == 0:
            (folder / label / f"{number:02d}-copy.txt").write_text(f"{text.upper()}!", "utf-8")
    odd = {"same": f"a b c {WORD}", "again": f"a b c {WORD}", "bad": f"{WORD} \udcff", "blank": " \n"}
    for name, text in odd.items():
        (folder / "late" / f"{name}.txt").write_bytes(text.encode("utf-8", "surrogateescape"))


def test_no_word_of_a_text_is_written_or_said(chain):
    # a model may count words, and then holds them; it never leaves for git, the logs or the page
    places = {"raw", "head", "candidate"}
    files = [file for file in (chain.folder / "data").rglob("*") if file.is_file() and not places & {*file.parts}]
    assert {"quarantine.csv", "leaks.csv", "predictions.parquet", "slices.csv"} <= {file.name for file in files}
    for file in files:
        if file.suffix == ".parquet":
            table = pd.read_parquet(file)
            content = table.to_csv() + ",".join(map(str, table.columns))
        else:
            content = file.read_bytes().decode("latin-1")
        assert WORD not in content.lower(), file
    assert WORD not in chain.said.lower()


def test_no_word_of_a_damaged_row_is_written_or_said(chain, tmp_path, caplog):
    rows = {
        "news.csv": b'text,label\n"%s one",a\n"%s "two" three",b\n%s,b,more\n\xff %s,b\n\n,b\n%s,b\n',
        "news.jsonl": b'{"text": "%s", "label": "a"}\n{"text": "%s\n{"text": ["%s"], "label": "b"}\n%s\n',
        "open.csv": b'text,label\n%s,a\n"%s never closed,a\n%s,b\n',
    }
    caplog.set_level(logging.INFO, logger="graftline")
    for name, content in rows.items():
        (tmp_path / name).write_bytes(content.replace(b"%s", WORD.encode()))
        out = tmp_path / f"scanned-{name}"
        if name == "open.csv":
            with pytest.raises(ValueError, match="odd number of quotes") as caught:
                scan.run(raw=tmp_path / name, out=out, scan=chain.params.scan, modality="text")
            assert WORD not in str(caught.value).lower()
            continue
        scan.run(raw=tmp_path / name, out=out, scan=chain.params.scan, modality="text")
        samples, defects = (pd.read_parquet(out / f"{kind}.parquet") for kind in ("samples", "defects"))
        assert len(samples) >= 1
        assert len(defects) >= 2
        assert WORD not in (samples.to_csv() + defects.to_csv()).lower()
    assert WORD not in caplog.text.lower()


def test_what_the_encoder_could_not_read_is_counted_and_said(chain):
    marks = read_json(chain.folder / "data/audit/audit.json")["marks"]
    assert marks["num_samples"] == 81
    assert 0.05 < marks["share_unknown"] < 0.6
    assert f"{marks['num_cut']} of 81 texts are longer than 16 tokens and are cut; " in chain.said
    assert "% of the tokens of batch first are unknown to the encoder (audit.max_unknown is 0.05)" in chain.said


def test_perturbations_and_slices_of_texts_are_measured(chain):
    unchanged = read_json(chain.folder / "data/evaluation/metrics.json")["label"]["candidate"]["unchanged"]
    assert set(unchanged) == {"lowercase", "folded", "mistyped"}
    assert unchanged["folded"] == 1.0
    slices = pd.read_csv(chain.folder / "data/evaluation/slices.csv")
    sizes = slices.loc[slices["column"] == "size", "value"].tolist()
    assert "32 to 63 words" in sizes
    assert all(size.endswith(" words") for size in sizes)


def test_near_duplicates_of_held_out_texts_leave_training(chain):
    assert read_json(chain.folder / "data/audit/audit.json")["num_leaks"] >= 2


def test_forms_of_a_model_of_texts_answer_the_held_out_texts(chain):
    pytest.importorskip("onnxruntime", reason="needs the extra [export]: pip install -e '.[export]'")
    before, paths = chain.params, chain.paths["evaluate"]
    chain.params = replace(before, evaluate=replace(before.evaluate, forms=["onnx", "int8"], perturbations=[]))
    chain.paths["evaluate"] = paths | {"out": chain.folder / "evaluation with forms"}
    chain.do("evaluate")
    chain.params, chain.paths["evaluate"] = before, paths
    metrics = read_json(chain.folder / "evaluation with forms/metrics.json")["label"]
    assert metrics["forms"]["onnx"]["changed"] == 0
    assert metrics["forms"]["onnx"]["accuracy"] == metrics["candidate"]["accuracy"]
    assert metrics["forms"]["int8"]["accuracy"] >= metrics["candidate"]["accuracy"] - 0.1
    names = {path.name for path in (chain.folder / "evaluation with forms/forms").iterdir()}
    assert {"onnx.onnx", "int8.onnx", "tokenizer.json"} <= names


def test_int8_answers_a_text_alone_as_it_does_among_others(chain):
    """The ranges of activations are found anew in each call, and a call among others would give others."""
    pytest.importorskip("onnxruntime", reason="needs the extra [export]: pip install -e '.[export]'")
    rows = read_manifest(chain.data / "validated/manifest", ["first"])
    model, lineage = load_bundle(chain.data / "candidate")
    every, one = (Samples(own, raw=chain.data / "raw", decode=decode_sample, read=read) for own in (rows, rows[:1]))
    answers = [
        ask_forms(model, lineage, ["int8"], samples, of_train=every, show=lambda items, total: items)[0]["int8"].answers
        for samples in (every, one)
    ]
    np.testing.assert_array_equal(answers[0]["label"][:1], answers[1]["label"])
