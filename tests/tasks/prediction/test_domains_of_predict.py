"""What answers samples of a domain that the model is adapted to: told by a person, or by the samples."""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

import tasks
from tasks.machine.options import ScaleOptions
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.weights import load_backbone
from tasks.predict import export_to, predict
from tasks.prediction import domains
from tasks.prediction.answers import Answerer
from tasks.prediction.export import MOST_DIFFERENCE
from tasks.prediction.inputs import find_inputs
from tasks.prediction.reading import Reading
from tasks.prediction.stream import answer_stream
from tests.kit.adapted import adapted, teach

CLASSES = {"animal": ["cat", "dog", "eel"], "place": ["in", "out"]}
UNCALIBRATED = "its heads answer animal; probabilities are not calibrated on this domain"


def draw(folder, num, *, is_dark):
    """Draw pictures of noise, dark ones or bright ones, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02d}.png" for number in range(num)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number + 100 * is_dark).integers(0, 60, (32, 32, 3))
        Image.fromarray((noise + (0 if is_dark else 190)).astype(np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """20 bright pictures, which are the sources', and 20 dark ones, which are cartoons."""
    folder = tmp_path_factory.mktemp("pictures")
    return {"bright": draw(folder / "bright", 20, is_dark=False), "dark": draw(folder / "dark", 20, is_dark=True)}


@pytest.fixture(scope="module")
def bundle(pictures, tmp_path_factory):
    """A classifier with a head of the domain `cartoon` for one of its targets. Its teller knows dark pictures."""
    torch.manual_seed(0)
    backbone = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
    model = adapted(Classifier(backbone, CLASSES, temperatures={"animal": 0.5}), {"cartoon": ["animal"]})
    vectors = [torch.from_numpy(embedded(model, pictures[side])) for side in ("bright", "dark")]
    teach(model, of_sources=vectors[0], of_domain=vectors[1])
    folder = tmp_path_factory.mktemp("adapted")
    save_bundle(folder, model, lineage={})
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory, bundle):
    """The same classifier, adapted to no domain."""
    model, _ = load_bundle(bundle)
    model.domains = None
    folder = tmp_path_factory.mktemp("plain")
    save_bundle(folder, model, lineage={})
    return folder


def embedded(model, paths):
    answerer = Answerer(model, device="cpu")
    parts = answer_stream(find_inputs(paths), answerer, reading=Reading(answerer.transform, {}), domain="none")
    return np.concatenate([part.vectors[0] for part in parts])


def answered(bundle, paths, tmp_path, **options):
    predict(bundle, paths, out=tmp_path / "out.parquet", device="cpu", **options)
    return pd.read_parquet(tmp_path / "out.parquet")


@pytest.fixture
def log(caplog):
    """Return what is said since the last call."""
    caplog.set_level(logging.INFO, logger="graftline")

    def lines():
        said = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return said

    return lines


def test_a_named_domain_is_answered_as_the_classifier_of_the_domain_answers(bundle, pictures, tmp_path, log):
    table = answered(bundle, pictures["bright"], tmp_path, domain="cartoon")
    assert log() == [f"the domain is cartoon: {UNCALIBRATED}"]
    model, _ = load_bundle(bundle)
    own = Answerer(model.of_domain("cartoon"), device="cpu")
    prepared = [own.transform.prepare(Image.open(path).convert("RGB")) for path in pictures["bright"]]
    for target, expected in own.answer(prepared).items():
        rows = table[table["target"] == target]
        assert rows["probability"].tolist() == expected.max(axis=1).tolist()
        assert rows["label"].tolist() == [CLASSES[target][place] for place in expected.argmax(axis=1)]
    assert table.loc[table["target"] == "animal", "domain"].eq("cartoon").all()
    assert table.loc[table["target"] == "place", "domain"].isna().all()  # it has no head of the domain


def test_parts_answered_elsewhere_are_told_the_domain_and_give_the_same_rows(bundle, pictures, tmp_path, monkeypatch):
    def here(blocks, part, *, address, num_gpus):
        for block in blocks:
            yield part(pa.table({"item": list(block)})["item"].to_pylist())  # as Ray Data moves them

    monkeypatch.setattr("tasks.prediction.part.spread_to_cluster", here)
    (tmp_path / "torn.png").write_bytes(b"hello")
    inputs = [*pictures["dark"], tmp_path / "torn.png", f"file://{pictures['dark'][0]}", tmp_path / "gone.png"]
    table = answered(bundle, inputs, tmp_path)
    there = answered(bundle, inputs, tmp_path, scale=ScaleOptions(engine="ray", address=None))
    pd.testing.assert_frame_equal(there, table)
    assert (table["domain"] == "cartoon").any()


def test_input_that_no_node_finds_stops_the_run(bundle, pictures, tmp_path, monkeypatch):
    here, away = pictures["bright"][0], tmp_path / "away.png"

    def there(blocks, part, *, address, num_gpus):
        for block in blocks:
            here.rename(away)
            answers = part(list(block))
            away.rename(here)
            yield answers

    monkeypatch.setattr("tasks.prediction.part.spread_to_cluster", there)
    with pytest.raises(ValueError, match="is here, but a node of the Ray cluster does not find it"):
        answered(bundle, [here], tmp_path, domain="none", scale=ScaleOptions(engine="ray", address=None))


def test_general_heads_answer_as_before_the_model_was_adapted(bundle, plain, pictures, tmp_path):
    before = answered(plain, pictures["dark"], tmp_path)
    assert "domain" not in before
    table = answered(bundle, pictures["dark"], tmp_path, domain="none")
    assert table["domain"].isna().all()
    pd.testing.assert_frame_equal(table.drop(columns="domain"), before)
    own = answered(bundle, pictures["dark"], tmp_path, domain="cartoon")
    is_animal = own["target"] == "animal"
    pd.testing.assert_frame_equal(own[~is_animal].drop(columns="domain"), before[~is_animal])
    assert (own.loc[is_animal, "probability"] != before.loc[is_animal, "probability"]).all()


def test_samples_tell_their_domain(bundle, pictures, tmp_path, log):
    for side, domain in (("dark", "cartoon"), ("bright", "none")):
        expected = answered(bundle, pictures[side], tmp_path, domain=domain)
        log()
        pd.testing.assert_frame_equal(answered(bundle, pictures[side], tmp_path), expected)
        [said] = log()
        if domain == "cartoon":
            assert said.startswith("the domain is cartoon (mean probability 0.9")
            assert said.endswith(f"over 20 samples): {UNCALIBRATED}")
        else:
            assert said.startswith(
                "the general heads answer: over 20 samples the mean probability of the sources is 1.0"
            )


def test_mixed_samples_are_answered_by_the_general_heads(bundle, pictures, tmp_path, log):
    mixed = [path for pair in zip(pictures["dark"][:15], pictures["bright"], strict=False) for path in pair]
    mixed += pictures["bright"][15:]  # 15 dark ones and 20 bright ones
    assert answered(bundle, mixed, tmp_path)["domain"].isna().all()
    assert log()[0].endswith("is not surely above a half")


def test_one_sample_tells_its_domain_too(bundle, pictures, tmp_path, log):
    assert answered(bundle, pictures["dark"][:1], tmp_path)["domain"].notna().any()
    assert "over 1 sample)" in log()[0]


@pytest.mark.parametrize("size", [1, 3, 16])
def test_the_first_inputs_tell_the_domain_of_all_whatever_the_size_of_a_minibatch(
    bundle, pictures, tmp_path, monkeypatch, log, size
):
    """Four dark pictures are among the five inputs from the first sample on."""
    monkeypatch.setattr("tasks.prediction.stream.NUM_TOLD", 5)
    gone = [tmp_path / f"{number}.png" for number in range(8)]
    inputs = [*gone[:7], *pictures["dark"][:2], gone[7], *pictures["dark"][2:4], *pictures["bright"]]
    table = answered(bundle, inputs, tmp_path, minibatch_size=size)
    assert "over 4 samples" in log()[0]
    assert table["path"].tolist() == [str(path) for path in inputs for _ in CLASSES]
    has_label = table["reason"].isna()
    assert has_label.sum() == 24 * 2
    assert (table["domain"].notna() == (has_label & (table["target"] == "animal"))).all()


def test_inputs_without_a_sample_tell_nothing(bundle, tmp_path, log):
    table = answered(bundle, [tmp_path / "none.png"] * 3, tmp_path)
    assert table["reason"].tolist() == ["missing_file"] * 6
    assert log() == []


def test_samples_are_read_once_for_the_domain_and_the_answers(bundle, pictures):
    answerer = Answerer(load_bundle(bundle)[0], device="cpu")
    reading, decoded = Reading(answerer.transform, {}), []
    decode = reading.decode
    reading.decode = lambda content: (decoded.append(content), decode(content))[1]
    parts = list(answer_stream(find_inputs(pictures["dark"]), answerer, reading=reading))
    assert [part.adapted for part in parts] == [{"animal": "cartoon"}] * len(parts)
    assert len(decoded) == 20


@pytest.mark.parametrize(
    ("domain", "sentence"),
    [
        ("photo", "the domain is 'photo', but the model is adapted to cartoon: name one of these, or auto, or none"),
        ("\x1b[2J" * 99, r"the domain is '\\x1b[2J"),
    ],
)
def test_unknown_domain_is_refused_with_the_known_ones(bundle, pictures, tmp_path, domain, sentence):
    for ask in (
        lambda: predict(bundle, pictures["dark"], out=tmp_path / "out.csv", domain=domain),
        lambda: tasks.load(bundle, domain=domain),
        lambda: export_to(tmp_path / "model.pt", bundle, format="torch", domain=domain),
    ):
        with pytest.raises(ValueError, match="the domain is") as refused:
            ask()
        assert sentence.replace("\\\\", "\\") in str(refused.value)
        assert str(refused.value).isprintable()
    assert list(tmp_path.iterdir()) == []


def test_domain_of_a_model_that_is_adapted_to_none_is_refused(plain, pictures, tmp_path, shell):
    done = shell("predict", plain, pictures["dark"][0], "--domain", "cartoon", "-o", tmp_path / "out.csv")
    assert done.error == "the domain is 'cartoon', but the model is adapted to no domain: leave it out"
    for domain in ("auto", "none"):
        assert "domain" not in answered(plain, pictures["dark"][:1], tmp_path, domain=domain)


def test_domain_is_named_on_the_command_line(bundle, pictures, shell):
    done = shell("predict", bundle, pictures["bright"][0], "--domain", "cartoon", "--device", "cpu")
    assert f"the domain is cartoon: {UNCALIBRATED}" in done.stderr
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == list(CLASSES)


def test_notebook_names_the_domain_at_loading_or_at_a_call(bundle, pictures, tmp_path):
    paths = pictures["bright"]
    general, own = (
        answered(bundle, paths, tmp_path, domain=domain)["probability"].tolist() for domain in ("none", "cartoon")
    )
    model, named = tasks.load(bundle, device="cpu"), tasks.load(bundle, device="cpu", domain="cartoon")
    assert model.domains == {"cartoon": ("animal",)}
    assert model.predict(paths)["probability"].tolist() == general
    assert model.predict(paths, domain="cartoon")["probability"].tolist() == own
    assert named.predict(paths)["probability"].tolist() == own
    assert named.predict(paths, domain="none")["probability"].tolist() == general
    table = named.predict(np.stack([np.asarray(Image.open(path)) for path in paths]))
    assert table["probability"].tolist() == own
    assert table["domain"].fillna("general").tolist() == ["cartoon", "general"] * 20
    assert (model.embed(paths) == named.embed(paths)).all()
    with pytest.raises(ValueError, match="the domain is 'photo', but the model is adapted to cartoon"):
        model.predict(paths, domain="photo")


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_predictions_with_domains_may_be_replaced_and_are_no_input(bundle, tmp_path, ending):
    draw(tmp_path / "dark", 3, is_dark=True)
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[ending]
    for _ in range(2):
        assert predict(bundle, [tmp_path / "dark"], out=tmp_path / f"dark/out.{ending}", device="cpu") == {"": 3}
    table = read(tmp_path / f"dark/out.{ending}")
    assert table.loc[table["target"] == "animal", "domain"].eq("cartoon").all()


def test_exported_file_answers_for_the_domain_that_is_named(bundle, pictures, tmp_path, log):
    model, _ = load_bundle(bundle)
    own, general = Answerer(model.of_domain("cartoon"), device="cpu"), Answerer(model, device="cpu")
    pixels = torch.stack([own.transform.prepare(Image.open(path).convert("RGB")) for path in pictures["dark"]])
    for domain, expected in (("cartoon", own), ("auto", general)):
        path = tmp_path / domain
        export_to(path, bundle, format="torch", domain=domain)
        with pytest.warns(FutureWarning, match="deprecated"):
            outputs = torch.jit.load(path)(pixels)
        for output, wanted in zip(outputs, expected.answer(pixels).values(), strict=True):
            np.testing.assert_allclose(output.numpy(), wanted, atol=MOST_DIFFERENCE)
    named, told = log()
    assert named.endswith(", its heads of the domain cartoon, whose probabilities are not calibrated")
    assert told.endswith(", its general heads")


def test_probability_that_is_not_finite_tells_no_domain(bundle, pictures, tmp_path, monkeypatch):
    model, _ = load_bundle(bundle)
    with torch.no_grad():
        model.domains.teller.bias.fill_(torch.nan)
    monkeypatch.setattr("tasks.models.bundle.load_bundle", lambda folder: (model, {}))
    assert answered(bundle, pictures["dark"], tmp_path)["domain"].isna().all()


def test_fewer_samples_have_to_be_surer(bundle):
    model, _ = load_bundle(bundle)
    model = adapted(model, {"cartoon": ["animal"], "sketch": ["place"]})
    answerer = Answerer(model, device="cpu")
    for n, share, is_told in (
        (1, 0.94, False), (1, 0.96, True), (100, 0.59, False), (100, 0.61, True), (512, 0.54, False), (512, 0.55, True),
    ):  # fmt: skip
        with torch.no_grad():
            model.domains.teller.bias.copy_(torch.log(torch.tensor([(1 - share) / 2, (1 - share) / 2, share])))
        vectors = np.zeros((n, model.backbone.dim), np.float16)
        assert domains.of_told(answerer, vectors).adapted == ({"place": "sketch"} if is_told else {})
