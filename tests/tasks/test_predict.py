"""What a person gets who has a bundle and pictures."""

import io
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import tasks
from tasks.data.samples.samples import sample_id
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.predict import predict
from tasks.prediction import prediction_table
from tasks.prediction.answers import Answerer
from tasks.targets.number import Number
from tests.kit.four_targets import four_targets, untrained
from tests.kit.plain import plain_probabilities

ROOT = Path(__file__).parents[2]
CLASSES = {"animal": ["cat", "dog", "eel"], "place": ["in", "out"]}
TEMPERATURES = {"animal": 0.5, "place": 3.0}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """Two targets on the shipped backbone, with heads that tell noise apart."""
    torch.manual_seed(0)
    stages = ["stage2", "stage3", "stage4", "conv5"]
    backbone = load_backbone(
        "shufflenet_v2_x1_0", weights=str(ROOT / "backbones/glyphs.safetensors"), features=stages, image_size=32
    )
    model = Classifier(backbone, CLASSES, temperatures=TEMPERATURES)
    folder = tmp_path_factory.mktemp("bundle")
    save_bundle(folder, model, lineage={})
    return folder


@pytest.fixture(scope="module")
def four(bundle, tmp_path_factory):
    """A bundle with a target of each kind, and a number without an interval."""
    folder = tmp_path_factory.mktemp("four")
    targets = four_targets(angle=Number(measure="degrees", scale=90.0))
    save_bundle(folder, untrained(load_bundle(bundle)[0].backbone, targets, spread=3), lineage={})
    return folder


@pytest.fixture
def pictures(tmp_path, picture):
    """A folder of 40 pictures, more than a minibatch."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(40):
        picture(seed, width=40, height=48).save(folder / f"{seed:02d}.png")
    return folder


def bomb(width, height):
    """A PNG of few bytes that claims to be as large."""

    def chunk(kind, content):
        checked = kind + content
        return len(content).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def coded_over_and_over(times):
    """A JPEG of few bytes that takes its decoder minutes: each scan is a pass over all pixels."""
    stream = io.BytesIO()
    Image.new("L", (2400, 2400)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * times + content[-2:]


def test_every_picture_has_a_row_a_target_with_the_probability_that_the_bundle_gives(
    bundle, pictures, picture, tmp_path
):
    predict(bundle, [pictures], out=tmp_path / "out.parquet", precision="fp32", device="cpu", top_k=2)
    table = pd.read_parquet(tmp_path / "out.parquet")
    model, _ = load_bundle(bundle)
    pixels = torch.stack([model.backbone.transform.prepare(picture(seed, width=40, height=48)) for seed in range(40)])
    paths = sorted(pictures.iterdir())
    for (target, names), expected in zip(CLASSES.items(), plain_probabilities(model, [pixels]), strict=True):
        rows = table[table["target"] == target]
        assert rows["path"].tolist() == [str(path) for path in paths]
        assert rows["sample_id"].tolist() == [sample_id(path.read_bytes()) for path in paths]
        assert rows["probability"].to_numpy() == pytest.approx(expected.max(dim=1).values.numpy(), abs=1e-4)
        assert rows["label"].tolist() == [names[index] for index in expected.argmax(dim=1)]
        assert rows["top_labels"].map(list).tolist() == [
            [names[i] for i in row[:2]] for row in (-expected).argsort(dim=1)
        ]
        assert np.stack(rows["top_probabilities"])[:, 0] == pytest.approx(rows["probability"])
        assert rows["reason"].isna().all()


def test_bad_inputs_become_rows_with_a_reason_and_the_run_goes_on(bundle, pictures, tmp_path, shell):
    whole = (pictures / "00.png").read_bytes()
    bad = {
        "bomb.png": bomb(60_000, 60_000), "cut.png": whole[: len(whole) // 2], "empty.png": b"", "text.png": b"hello",
        "pickle.png": b"\x80\x04N.", "scans.jpg": coded_over_and_over(20_000),
    }  # fmt: skip
    for name, content in bad.items():
        (pictures / name).write_bytes(content)
    out = tmp_path / "out.parquet"
    done = shell("predict", bundle, pictures, tmp_path / "gone.jpg", "-o", out, "--device", "cpu")
    assert done.status == 0, done.stderr
    assert "predicted 40 of 47" in done.stderr
    assert "2 not_an_image" in done.stderr
    table = pd.read_parquet(out)
    assert len(table) == 47 * 2
    told = table[table["target"] == "place"].set_index(table[table["target"] == "place"]["path"].map(os.path.basename))
    expected = {
        "bomb.png": "too_many_pixels", "cut.png": "truncated", "empty.png": "empty_file", "text.png": "not_an_image",
        "pickle.png": "not_an_image", "scans.jpg": "unreadable", "gone.jpg": "missing_file",
    }  # fmt: skip
    assert told["reason"].dropna().to_dict() == expected
    assert told.loc[list(expected), ["label", "probability", "top_labels"]].isna().all(axis=None)
    assert told.loc["cut.png", "sample_id"] == sample_id(bad["cut.png"])


def test_run_that_answers_nothing_fails_and_says_why(bundle, tmp_path, shell):
    folder = tmp_path / "texts"
    folder.mkdir()
    out = tmp_path / "out.parquet"
    done = shell("predict", bundle, folder, "-o", out, "--device", "cpu")
    assert f"nothing was predicted: there is no sample in {folder}" in done.error
    for number in range(5):
        (folder / f"{number}.png").write_bytes(b"%PDF-1.7")
    done = shell("predict", bundle, folder, "-o", out, "--device", "cpu")
    assert "nothing was predicted: 5 not_an_image (for example" in done.error
    assert "a PDF document: save its pages as images" in done.error
    assert len(pd.read_parquet(out)) == 10


def test_neighbours_that_cannot_be_read_change_no_prediction(bundle, pictures, tmp_path):
    predict(bundle, [pictures], out=tmp_path / "alone.parquet", device="cpu")
    for number in range(40):
        (pictures / f"{number:02d}-bad.png").write_bytes(b"bad")
    predict(bundle, [pictures], out=tmp_path / "mixed.parquet", device="cpu")
    alone, mixed = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("alone", "mixed"))
    mixed = mixed[mixed["reason"].isna()].reset_index(drop=True)
    assert mixed["label"].equals(alone["label"])
    assert mixed["probability"].to_numpy() == pytest.approx(alone["probability"].to_numpy(), abs=1e-6)


def test_pictures_of_parquet_and_of_a_csv_are_those_of_the_folder(bundle, pictures, tmp_path):
    paths = sorted(pictures.iterdir())
    rows = pa.table({"image": [path.read_bytes() for path in paths]})
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=7)
    (tmp_path / "list.csv").write_text("path\n" + "\n".join(f"pictures/{path.name}" for path in paths), "utf-8")
    tables = []
    for named in (pictures, tmp_path / "rows.parquet", tmp_path / "list.csv"):
        predict(bundle, [named], out=tmp_path / "out.parquet", device="cpu")
        tables.append(pd.read_parquet(tmp_path / "out.parquet").drop(columns="path"))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])


def test_predictions_of_a_folder_may_be_written_into_it_and_are_not_read_again(bundle, pictures):
    for _ in range(2):
        counts = predict(bundle, [pictures], out=pictures / "out.parquet", device="cpu")
        assert counts == {"": 40}


@pytest.mark.parametrize("way", ["link", "pictures/../pictures"])
def test_predictions_that_are_reached_another_way_are_not_read_again(bundle, pictures, tmp_path, way):
    (tmp_path / "link").symlink_to(pictures)
    for name in ("first.parquet", "second.parquet", "second.parquet"):
        assert predict(bundle, [pictures], out=tmp_path / way / name, device="cpu") == {"": 40}


@pytest.mark.parametrize("kind", ["file", "dangling", "folder"])
def test_planted_link_beside_the_output_is_never_followed(bundle, pictures, tmp_path, kind):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/key").write_text("precious", "utf-8")
    target = {"file": "own/key", "dangling": "own/new", "folder": "own"}[kind]
    (pictures / ".out.parquet.part").symlink_to(tmp_path / target)
    assert predict(bundle, [pictures], out=pictures / "out.parquet", device="cpu") == {"": 40}
    assert (tmp_path / "own/key").read_text("utf-8") == "precious"
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["key"]
    assert len(pd.read_parquet(pictures / "out.parquet")) == 80


@pytest.mark.parametrize(
    "out", ["00.png", "list.csv", "old.parquet", "model/model.safetensors", "model/new.parquet", "."]
)
def test_output_never_replaces_an_input_or_the_bundle(bundle, pictures, out):
    shutil.copytree(bundle, pictures / "model")
    (pictures / "list.csv").write_text("path\n00.png\n", "utf-8")
    predict(bundle, [pictures / "00.png"], out=pictures / "old.parquet", device="cpu")
    before = {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}
    named = pictures / "old.parquet" if out == "old.parquet" else pictures
    with pytest.raises(ValueError, match=re.escape(f"{pictures / out} ")):
        predict(pictures / "model", [named], out=pictures / out)
    assert {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()} == before


def test_export_never_replaces_the_bundle(bundle, shell):
    refused = shell("predict", bundle, "--export", "torch", "-o", bundle / "model.safetensors")
    assert "lies in the bundle" in refused.error


def test_export_never_replaces_a_file(bundle, tmp_path, shell):
    (tmp_path / "victim.csv").write_text("mine", "utf-8")
    refused = shell("predict", bundle, "--export", "torch", "-o", tmp_path / "victim.csv")
    assert "victim.csv is there already" in refused.error
    assert (tmp_path / "victim.csv").read_text("utf-8") == "mine"


def test_root_that_is_no_folder_is_refused(bundle, pictures, tmp_path):
    with pytest.raises(ValueError, match=r"the root .* is no folder"):
        predict(bundle, [pictures], out=tmp_path / "out.parquet", root=tmp_path / "none")


def test_rows_are_written_in_groups_as_they_come(bundle, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_table, "ROWS_AT_ONCE", 32)
    predict(bundle, [pictures], out=tmp_path / "out.parquet", device="cpu")
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3


def test_rows_of_many_classes_are_written_in_smaller_groups(bundle, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_table, "CLASSES_AT_ONCE", 80)
    predict(bundle, [pictures], out=tmp_path / "out.parquet", device="cpu", top_k=3)
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3  # 3 + 2 classes of each of 40 pictures


def test_run_that_fails_leaves_the_predictions_of_before(bundle, pictures, tmp_path, shell):
    out = tmp_path / "out.parquet"
    predict(bundle, [pictures / "00.png"], out=out, device="cpu")
    before = out.read_bytes()
    done = shell("predict", bundle, pictures, "-o", out, max_file_bytes=1000)
    assert "File too large" in done.error
    assert out.read_bytes() == before
    assert sorted(tmp_path.glob(".out*")) == []


def test_no_input_that_is_a_picture_gives_a_whole_file(bundle, tmp_path):
    (tmp_path / "none").mkdir()
    predict(bundle, [tmp_path / "none"], out=tmp_path / "out.parquet", device="cpu")
    assert pd.read_parquet(tmp_path / "out.parquet").columns.tolist() == prediction_table.schema_of("images", []).names


def test_more_classes_are_asked_for_than_there_are(bundle, pictures, tmp_path):
    predict(bundle, [pictures], out=tmp_path / "out.parquet", device="cpu", top_k=99)
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table.groupby("target")["top_labels"].agg(lambda rows: len(rows.iloc[0])).to_dict() == {
        "animal": 3,
        "place": 2,
    }


def test_probability_that_is_not_finite_is_an_error_and_no_prediction(bundle, pictures, tmp_path, monkeypatch):
    model, _ = load_bundle(bundle)
    model.temperatures["place"] = 1e-320
    monkeypatch.setattr("tasks.models.bundle.load_bundle", lambda folder: (model, {}))
    with pytest.raises(ValueError, match=r"probabilities of .*00\.png for place are not finite"):
        predict(bundle, [pictures], out=tmp_path / "out.parquet", device="cpu")
    assert not (tmp_path / "out.parquet").exists()


def test_backbone_and_what_is_no_bundle_are_refused(bundle, pictures, tmp_path, shell):
    model, _ = load_bundle(bundle)
    (tmp_path / "backbone").mkdir()
    save_bundle(tmp_path / "backbone", Classifier(model.backbone, {}), lineage={})
    out = ("-o", tmp_path / "out.parquet")
    assert "a backbone, which has no targets" in shell("predict", tmp_path / "backbone", pictures, *out).error
    assert "holds neither model.json nor model.safetensors" in shell("predict", pictures, pictures, *out).error
    assert "/nope is not there: name the folder of a bundle" in shell("predict", "/nope", pictures, *out).error


def test_model_is_used_without_any_code_of_training(bundle, pictures, tmp_path):
    """Neither imported at the start nor on the way."""
    code = (
        "import runpy, sys; sys.argv[0] = 'predict'\n"
        "runpy.run_module('tasks.predict', run_name='__main__', alter_sys=True)\n"
        "print(*[name for name in sys.modules if name.startswith(('tasks.', 'prefect', 'dvc', 'great', 'scipy'))])"
    )
    command = [sys.executable, "-c", code, str(bundle), str(pictures), "-o", str(tmp_path / "out.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    names = done.stdout.split()
    assert "tasks.prediction.stream" in names
    rooms = (
        "tasks.training",
        "tasks.finetune",
        "tasks.train_head",
        "tasks.evaluate",
        "prefect",
        "dvc",
        "great",
        "scipy",
    )
    assert [name for name in names if name.startswith(rooms)] == []


def test_without_an_output_file_a_line_for_each_picture_and_target_is_printed(bundle, pictures, shell):
    done = shell("predict", "--bundle", bundle, pictures / "00.png", pictures / "none.png", "--device", "cpu")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines[:2]] == [[str(pictures / "00.png"), target] for target in CLASSES]
    assert all(label in CLASSES[target] and 0 < float(share) <= 1 for _, target, label, share in lines[:2])
    assert [line[2] for line in lines[2:]] == ["missing_file", "missing_file"]


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_ending_of_the_output_file_decides_its_format(bundle, pictures, tmp_path, ending):
    read = {"csv": pd.read_csv, "json": pd.read_json}[ending]
    predict(bundle, [pictures], out=tmp_path / "out.parquet", device="cpu")
    for _ in range(2):  # it may replace earlier predictions
        predict(bundle, [pictures], out=tmp_path / f"out.{ending}", device="cpu")
    expected, table = pd.read_parquet(tmp_path / "out.parquet"), read(tmp_path / f"out.{ending}")
    assert table["label"].tolist() == expected["label"].tolist()
    assert np.allclose(table["probability"], expected["probability"], atol=1e-9)
    (tmp_path / f"mine.{ending}").write_text("mine", "utf-8")
    with pytest.raises(ValueError, match="holds no predictions"):
        predict(bundle, [pictures], out=tmp_path / f"mine.{ending}", device="cpu")
    with pytest.raises(ValueError, match=r"out\.txt ends in \.txt, expected \.parquet, \.csv, \.json"):
        predict(bundle, [pictures], out=tmp_path / "out.txt", device="cpu")


def test_each_kind_of_target_has_its_columns(four, pictures, tmp_path):
    assert predict(four, [pictures], out=tmp_path / "out.parquet", device="cpu", top_k=2) == {"": 40}
    table = pd.read_parquet(tmp_path / "out.parquet")
    model, _ = load_bundle(four)
    paths = sorted(pictures.iterdir())
    prepared = [model.backbone.transform.prepare(Image.open(path).convert("RGB")) for path in paths]
    answers = Answerer(model, device="cpu").answer(prepared)
    by_target = {name: rows.reset_index(drop=True) for name, rows in table.groupby("target")}
    for name, target in model.targets.items():
        rows, own = by_target[name], answers[name]
        assert rows["label"].tolist() == target.shown(own)
        truths = target.encode(rows["label"])  # it is in the form of the manifest
        if isinstance(target, Number):
            assert truths.tolist() == rows["value"].tolist() == own[:, 0].tolist()
            ends = rows[["low", "high"]].to_numpy()
            np.testing.assert_array_equal(ends, own[:, 1:] if target.interval else np.full_like(own[:, 1:], np.nan))
            assert rows[["probability", "top_labels", "top_probabilities"]].isna().all(axis=None)
        else:
            assert rows[["value", "low", "high"]].isna().all(axis=None)
            assert rows["top_labels"].map(list).tolist() == [
                [target.names[place] for place in row[:2]] for row in np.argsort(-own, axis=1)
            ]
            assert np.stack(rows["top_probabilities"]).tolist() == (-np.sort(-own, axis=1)[:, :2]).tolist()
    size = by_target["size"]
    steps = [model.targets["size"].names.index(label) for label in size["label"]]
    assert size["probability"].tolist() == answers["size"][np.arange(40), steps].tolist()
    assert by_target["traits"]["probability"].isna().all()
    columns = ["path", "sample_id", "target", "label", "probability", "value", "low", "high", "reason", "detail"]
    assert [name for name in table if not name.startswith("top_")] == columns
    loaded = tasks.load(four, device="cpu")
    plain = columns[:-2]
    pd.testing.assert_frame_equal(loaded.predict(pictures, top_k=2)[plain], table[plain], check_dtype=False)
    assert loaded.targets == model.targets
    assert loaded.classes["value"] == []


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_predictions_with_numbers_may_be_replaced_and_are_no_input(four, pictures, ending):
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[ending]
    for _ in range(2):
        assert predict(four, [pictures], out=pictures / f"out.{ending}", device="cpu") == {"": 40}
    table = read(pictures / f"out.{ending}").set_index("target")
    assert table.loc["value", "value"].between(table.loc["value", "low"], table.loc["value", "high"]).all()
    assert set(table.loc["traits", "label"]) <= {"[]", '["even"]', '["loop"]', '["even","loop"]'}


def test_printed_answers_are_in_words(four, pictures, shell):
    done = shell("predict", four, pictures / "00.png", "--device", "cpu")
    lines = {line.split("\t")[1]: line.split("\t")[2:] for line in done.stdout.splitlines()}
    assert re.fullmatch(r"-?\d+\.\d points \(-?\d+\.\d to -?\d+\.\d\)", lines["value"][0])
    assert re.fullmatch(r"-?\d+ degrees", lines["angle"][0])
    assert lines["traits"] in (["(none)"], ["even"], ["loop"], ["even, loop"])
    assert lines["size"][0] in ("thin", "medium", "bold")
    assert [name for name, line in lines.items() if len(line) == 2] == ["label", "size"]  # with a probability


def test_number_that_is_not_finite_is_an_error_and_no_prediction(four, pictures, tmp_path, monkeypatch):
    model, _ = load_bundle(four)
    with torch.no_grad():
        model.heads[list(model.targets).index("value")].bias.fill_(torch.inf)
    monkeypatch.setattr("tasks.models.bundle.load_bundle", lambda folder: (model, {}))
    with pytest.raises(ValueError, match=r"the numbers of .*00\.png for value are not finite"):
        predict(four, [pictures], out=tmp_path / "out.parquet", device="cpu")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # botocore and moto cause them
class TestAtAnAddress:
    """The same files in a bucket as in a folder: the same rows, but for their names."""

    @pytest.fixture
    def away(self, pictures, bucket):
        (pictures / "inner").mkdir()
        (pictures / "03.png").rename(pictures / "inner/03.png")
        (pictures / "bad.png").write_bytes(b"hello")
        (pictures / ".hidden.png").write_bytes((pictures / "00.png").read_bytes())
        (pictures / "labels.csv").write_text("path,label\n00.png,cat\n", "utf-8")
        some = [{"bytes": (pictures / f"0{number}.png").read_bytes(), "path": None} for number in range(3)]
        pq.write_table(pa.table({"image": some}), pictures / "rows.parquet")
        for path in pictures.rglob("*"):
            if path.is_file():
                bucket(f"new/{path.relative_to(pictures)}", path.read_bytes())
        return pictures

    def test_files_of_a_bucket_are_answered_as_those_of_a_folder(self, bundle, away, tmp_path):
        predict(bundle, [away], out=tmp_path / "near.parquet", device="cpu")
        predict(bundle, ["s3://door/new"], out=tmp_path / "far.parquet", device="cpu")
        near, far = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("near", "far"))
        assert (
            near["path"].str.removeprefix(str(away)).tolist() == far["path"].str.removeprefix("s3://door/new").tolist()
        )
        for column in near.columns.difference(["path"]):
            assert near[column].map(str).tolist() == far[column].map(str).tolist(), column
        assert set(far["reason"].dropna()) == {"hidden_file", "not_an_image"}

    def test_one_file_of_a_bucket_may_be_named(self, bundle, away, tmp_path):
        counts = predict(bundle, ["s3://door/new/inner/03.png"], out=tmp_path / "far.parquet", device="cpu")
        assert counts == {"": 1}

    def test_a_bucket_that_does_not_answer_stops_the_run_before_anything_is_written(self, bundle, bucket, tmp_path):
        with pytest.raises(OSError, match=r"s3://nowhere/new: .*: check the address, the network and the permission"):
            predict(bundle, ["s3://nowhere/new"], out=tmp_path / "far.parquet", device="cpu")
        assert not (tmp_path / "far.parquet").exists()

    def test_an_address_of_an_unknown_kind_is_named(self, bundle, tmp_path):
        with pytest.raises(OSError, match=r"door://new: .*: check the address"):
            predict(bundle, ["door://new"], out=tmp_path / "far.parquet", device="cpu")
