"""The stage adapt on digits of two domains: those by day have labels, those by night are dim and have none."""

import csv
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks import adapt
from tasks.data.manifest.tables import write_table
from tasks.data.vectors.embeddings import read_embeddings, write_embeddings
from tasks.images import copy_hash, decode
from tasks.machine.files import read_json
from tasks.models.backbone import Backbone
from tasks.models.bundle import load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.predict import predict
from tasks.prediction.answers import Answerer
from tasks.prediction.heldout import Parts, ask
from tasks.prediction.predictor import Predictor
from tasks.stage.params import load_params
from tasks.targets.classes import likeliest
from tasks.training.finetuning.grafting import graft
from tasks.watch import with_vectors
from tasks.watching.reference import Reference
from tests.kit.chain import ROOT, Chain
from tests.kit.domains import asked

NUM = 700
TARGETS = ("label", "parity")
AUTO = asked(targets="auto")
OWN = asked(targets="auto", statistics="own")


def write_digits(folder: Path) -> None:
    """Write pictures in two domains; a fifth of those by night is labelled, and held out."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.mkdir(parents=True)
    rows = []
    for place, (picture, number) in enumerate(zip(digits.images[:NUM], digits.target[:NUM].tolist(), strict=True)):
        is_night, is_judge = place % 5 in (0, 1), place % 25 == 0
        pixels = 60 + 0.2 * 15.9 * picture if is_night else 15.9 * picture
        Image.fromarray(pixels.astype(np.uint8)).resize((16, 16)).save(folder / f"{place:03d}.png")
        labels = {"label": f"digit {number}", "parity": "odd" if number % 2 else "even"}
        if is_night and not is_judge:
            labels = dict.fromkeys(labels)
        side = "heldout" if is_judge and is_night else None
        rows.append({"path": f"{place:03d}.png", "domain": "night" if is_night else "day", "split": side} | labels)
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)


@pytest.fixture(scope="module")
def chain(tmp_path_factory, great_expectations):
    """A project with its trained model, which is the head alone."""
    params = load_params(ROOT / "params.yaml")
    made = Chain(
        tmp_path_factory.mktemp("domains"),
        validate_=replace(params.validate_, targets=list(TARGETS), min_samples_per_class=5),
        train_head=replace(params.train_head, sharing="never"),
    )
    write_digits(made.data / "raw/first")
    made.do("scan", "validate", "backbone", "embed", "audit", "train_head")
    pretrained, _ = load_bundle(made.data / "backbone")
    save_trained(made.data / "trained", pretrained.backbone, made.data)
    return made


def save_trained(folder: Path, backbone: Backbone, data: Path) -> Path:
    folder.mkdir()
    model = graft(backbone, data / "head", targets=read_json(data / "validated/classes.json"))
    save_bundle(folder, model, lineage={"stage": "head"})
    return folder


class Stage:
    """The stage on the data of a chain, of which a test may change a part."""

    def __init__(self, chain: Chain, out: Path) -> None:
        self.data, self.out = chain.data, out
        self.paths = {name: chain.shared[name] for name in (
            "manifests", "audit", "batches", "raw", "embeddings", "store", "trained"
        )}  # fmt: skip

    def run(self, options, *, out="first"):
        place = self.out / out
        adapt.run(
            **self.paths, out=place / "candidate", facts=place / "adaptation", adapt=options, modality="images", seed=0
        )
        return place

    def facts(self, options):
        return read_json(self.run(options) / "adaptation/adaptation.json")["domains"]

    def change_manifest(self, change):
        """Give the stage another manifest: change(table) changes it in place."""
        table = pd.read_parquet(self.data / "validated/manifest/first.parquet")
        change(table)
        self.paths["manifests"] = self.out / "manifest"
        self.paths["manifests"].mkdir()
        write_table(self.paths["manifests"] / "first.parquet", table)

    def change_vectors(self, change):
        """Give the stage other embeddings: change(vectors, manifest) changes them in place."""
        table = pd.read_parquet(self.paths["manifests"] / "first.parquet")
        kept = read_embeddings(self.data / "embeddings", ["first"], num_samples=len(table))
        vectors = kept[:].astype(np.float16)
        change(vectors, table)
        self.paths["embeddings"] = self.out / "embeddings"
        self.paths["embeddings"].mkdir()
        path = self.paths["embeddings"] / "first.safetensors"
        write_embeddings(path, [vectors], shape=vectors.shape, recipe=kept.recipe)


@pytest.fixture
def stage(chain, tmp_path):
    return Stage(chain, tmp_path)


@pytest.fixture(scope="module")
def adapted(chain, tmp_path_factory):
    """The folder of a candidate that is adapted to the night."""
    return Stage(chain, tmp_path_factory.mktemp("adapted")).run(AUTO)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def accuracies(bundle: Path, chain: Chain) -> dict[str, tuple[float, float]]:
    """Return, by target, how often the general head and that of the night are right on the pool."""
    from sklearn.datasets import load_digits

    table = pd.read_parquet(chain.data / "validated/manifest/first.parquet")
    paths = table.loc[table["split"] == "pool", "path"]
    numbers = load_digits().target[paths.str[:3].astype(int)]
    truths = {"label": [f"digit {number}" for number in numbers], "parity": np.where(numbers % 2, "odd", "even")}
    model, _ = load_bundle(bundle)
    general, own = (Answerer(each) for each in (model, model.of_domain("night")))
    pictures = [Image.open(chain.data / "raw/first" / path).convert("RGB") for path in paths]
    pixels = [general.transform.prepare(picture) for picture in pictures]
    answers = general.answer(pixels), own.answer(pixels)

    def right(side: int, name: str) -> float:
        names = np.array(model.targets[name].names)
        return float((names[likeliest(answers[side][name])] == truths[name]).mean())

    return {name: (right(0, name), right(1, name)) for name in model.targets}


def test_heads_of_a_domain_are_right_more_often_there(adapted, chain):
    for name, (general, own) in accuracies(adapted / "candidate", chain).items():
        assert 1 - own < 0.6 * (1 - general), name


def test_facts_say_what_became_of_each_domain_and_target(adapted):
    domains = read_json(adapted / "adaptation/adaptation.json")["domains"]
    assert list(domains) == ["night"]
    night = domains["night"]
    assert night["is_adapted"] is True
    assert night["num_labels"] == 0
    assert list(night["sources"]) == ["day"]
    assert night["separation"]["auc"] > 0.9
    assert set(night["targets"]) == set(TARGETS)
    assert night["targets"]["label"]["method"] == "infomax"
    assert night["targets"]["label"]["changed"] > 0.1
    assert night["targets"]["label"]["is_adapted"]
    _, lineage = load_bundle(adapted / "candidate")
    assert lineage["adapt"]["domains"] == {"night": {"label": "infomax", "parity": "infomax"}}
    assert lineage["adapt"]["params"]["targets"] == "auto"


def test_samples_of_each_side_most_unlike_the_other_are_listed(adapted):
    with (adapted / "adaptation/unlike.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["side"] for row in rows] == ["source"] * 12 + ["target"] * 12
    logits = [float(row["logit"]) for row in rows]
    assert logits[:12] == sorted(logits[:12])
    assert logits[12:] == sorted(logits[12:], reverse=True)
    assert all((int(row["path"][:3]) % 5 in (0, 1)) == (row["side"] == "target") for row in rows)


def test_teller_knows_the_domain_of_samples_that_nobody_learned_from(adapted, chain):
    table = pd.read_parquet(chain.data / "validated/manifest/first.parquet")
    rows = np.flatnonzero(table["split"] == "heldout")
    kept = read_embeddings(chain.data / "embeddings", ["first"], num_samples=len(table))
    teller = load_bundle(adapted / "candidate")[0].domains.teller
    logits = kept[rows] @ teller.weight.detach().numpy().T + teller.bias.detach().numpy()
    assert ((logits.argmax(axis=1) == 1) == (table["domain"].iloc[rows] == "night")).mean() > 0.97


def test_adapting_again_gives_the_same_bytes(adapted, stage):
    assert content(stage.run(AUTO)) == content(adapted)


def test_labels_of_held_out_samples_change_no_byte(adapted, stage):
    def permute(table):
        for domain in ("day", "night"):
            rows = table.index[(table["split"] == "heldout") & (table["domain"] == domain)]
            for name in TARGETS:
                before = table.loc[rows, name].tolist()
                table.loc[rows, name] = np.random.default_rng(1).permutation(before)
                assert table.loc[rows, name].tolist() != before

    stage.change_manifest(permute)
    assert content(stage.run(AUTO)) == content(adapted)


@pytest.fixture(scope="module")
def normalised(chain, tmp_path_factory):
    """The folder of a candidate whose night has statistics of batch normalisation of its own."""
    return Stage(chain, tmp_path_factory.mktemp("normalised")).run(OWN)


def test_domain_with_statistics_of_its_own_is_answered_by_one_road(normalised, chain):
    facts = read_json(normalised / "adaptation/adaptation.json")["domains"]["night"]["targets"]
    assert {own["statistics"] for own in facts.values()} == {"own"}
    table = pd.read_parquet(chain.data / "validated/manifest/first.parquet")
    rows = table[table["split"] == "heldout"].assign(batch="first")
    asked_for = ask_model(normalised / "candidate", rows, chain)
    predictor = Predictor(normalised / "candidate")
    for domain, part in rows.assign(place=range(len(rows))).groupby("domain"):
        paths = [chain.data / "raw/first" / path for path in part["path"]]
        told, named = (
            predictor.predict(paths, domain=how) for how in ("auto", "night" if domain == "night" else "none")
        )
        pd.testing.assert_frame_equal(told, named)
        label = told[told["target"] == "label"]
        for answers in (asked_for.models["candidate"], asked_for.altered["same"]):
            assert np.array_equal(answers["label"][part["place"]].max(axis=1), label["probability"])


def ask_model(bundle, rows, chain):
    parts = Parts(
        read=decode.read, decode=decode.decode_sample, hash_of=copy_hash.copy_hashes,
        hashes_shape=copy_hash.HASHES_SHAPE, alterations={"same": lambda picture: picture},
    )  # fmt: skip
    return ask(
        {"candidate": Answerer(load_bundle(bundle)[0])}, rows, raw=chain.data / "raw", store=chain.shared["store"],
        parts=parts, alterations=["same"],
    )  # fmt: skip


def test_statistics_of_a_domain_are_the_same_each_time(normalised, stage):
    assert content(stage.run(OWN)) == content(normalised)


def test_without_a_domain_to_adapt_to_the_candidate_is_the_trained_model(stage, chain):
    place = stage.run(asked())
    assert content(place / "candidate") == content(chain.data / "trained")
    assert read_json(place / "adaptation/adaptation.json") == {"domains": {}}
    assert (place / "adaptation/unlike.csv").read_text() == '"domain","side","batch","path","sample_id","logit"\n'


def test_model_with_a_backbone_of_its_own_embeds_the_samples(stage, chain, tmp_path):
    backbone = load_bundle(chain.data / "backbone")[0].backbone
    for name, parameter in backbone.named_parameters():
        if "conv5" in name:
            parameter.data *= 1.2
    stage.paths["trained"] = save_trained(tmp_path / "trained", backbone, chain.data)
    stage.change_vectors(lambda vectors, _: vectors.fill(np.nan))  # they are of another backbone
    place = stage.run(AUTO)
    general, own = accuracies(place / "candidate", chain)["label"]
    assert own > general + 0.1


def test_few_labels_of_the_domain_are_used(stage):
    from sklearn.datasets import load_digits

    def label(table):
        rows = table.index[(table["domain"] == "night") & (table["split"] == "pool")][:60]
        numbers = load_digits().target[table.loc[rows, "path"].str[:3].astype(int)]
        table.loc[rows, "label"] = [f"digit {number}" for number in numbers]
        table.loc[rows, "split"] = "train"

    stage.change_manifest(label)
    night = stage.facts(asked(targets=["night"]))["night"]
    assert night["num_labels"] == 60
    assert night["targets"]["label"]["num_labels"] == 60
    assert "num_labels" not in night["targets"]["parity"]


def move(table, rows, domain):
    """Take the labels of some samples, which are then of another domain."""
    table.loc[rows, "domain"] = domain
    table.loc[rows, list(TARGETS)] = None
    table.loc[rows, "split"] = "pool"


def of_day(table):
    return table.index[(table["domain"] == "day") & (table["split"] == "train")]


@pytest.mark.parametrize("method", ["auto", "standardise"])
def test_auto_adapts_to_no_domain_that_looks_like_the_others(stage, chain, method):
    def halve(table):
        move(table, of_day(table)[::2], "day two")
        table.loc[table["domain"] == "night", "split"] = "heldout"

    stage.change_manifest(halve)
    place = stage.run(asked(targets="auto", method=method))
    domains = read_json(place / "adaptation/adaptation.json")["domains"]
    assert list(domains) == ["day two"]
    assert domains["day two"]["is_adapted"] is False
    assert "cannot tell the domains apart" in domains["day two"]["targets"]["label"]["reason"]
    assert content(place / "candidate") == content(chain.data / "trained")


def test_domains_to_adapt_to_are_no_sources_of_each_other(stage):
    stage.change_manifest(lambda table: move(table, of_day(table)[::3], "dusk"))
    domains = stage.facts(asked(targets=["dusk", "night"], method="infomax"))
    assert list(domains) == ["dusk", "night"]
    assert all(list(domain["sources"]) == ["day"] for domain in domains.values())
    model, _ = load_bundle(stage.out / "first/candidate")
    assert model.domains.targets_of == {"dusk": TARGETS, "night": TARGETS}
    assert model.domains.teller.out_features == 3


def one_label_each(table):
    """Leave no digit 3 by day."""
    rows = table.index[(table["domain"] == "day") & (table["label"] == "digit 3")]
    table.loc[rows, "label"] = None


def alike(vectors, table):
    vectors[(table["domain"] == "night").to_numpy()] = 1


def far(vectors, table):
    vectors[(table["domain"] == "night").to_numpy()] += 300


@pytest.mark.parametrize(
    ("options", "rows", "vectors", "reason"),
    [
        ({"min_unlabelled": 10_000}, None, None, r"it has \d+ samples, expected at least 10000: land more of them"),
        ({}, one_label_each, None, "no source domain has a sample of class digit 3 in train, nor has the target"),
        ({}, None, alike, r"all of its \d+ samples have the same vector: look at its files"),
        ({"method": "reweight"}, None, far, r"none of the sources' \d+ samples resembles its samples"),
    ],
)  # fmt: skip
def test_what_cannot_be_adapted_to_is_answered_as_everywhere_with_a_warning(
    stage, caplog, options, rows, vectors, reason
):
    if rows:
        stage.change_manifest(rows)
    if vectors:
        stage.change_vectors(vectors)
    caplog.set_level(logging.WARNING, "graftline")
    own = stage.facts(asked(targets=["night"], **options))["night"]["targets"]["label"]
    assert own["method"] == "source"
    assert pd.Series([own["reason"]]).str.contains(reason).all(), own["reason"]
    assert own["reason"] in caplog.text


def call_night_none(table):
    table.loc[table["domain"] == "night", "domain"] = "none"


def forget_others(table):
    table.loc[table["domain"] == "day", list(TARGETS)] = None


@pytest.mark.parametrize(
    ("targets", "change", "message"),
    [
        (["dawn"], None, r"adapt.targets names the domain dawn, which no sample of train, val or the pool has, "
         "expected one of day, night: correct the spelling, or land samples of it"),
        (["night", "day"], None, "adapt.targets names day, night, and there is no other domain: land"),
        (["night"], forget_others, "adapt.targets names night, and no other domain has a label: land"),
        (["none"], call_night_none,
         "a domain is called 'none', which means something else: rename it"),
    ],
)  # fmt: skip
def test_domains_that_cannot_be_meant_are_refused_in_one_line(stage, targets, change, message):
    if change:
        stage.change_manifest(change)
    with pytest.raises(ValueError, match=message) as error:
        stage.run(asked(targets=targets))
    assert "\n" not in str(error.value)
    assert not (stage.out / "first").exists()


def test_batches_embedded_by_different_recipes_are_refused(stage, tmp_path):
    for batch, recipe in (("first", "one"), ("second", "other")):
        write_table_of(stage, batch)
        path = tmp_path / "embeddings" / f"{batch}.safetensors"
        path.parent.mkdir(exist_ok=True)
        num = len(pd.read_parquet(tmp_path / "manifest" / f"{batch}.parquet"))
        write_embeddings(path, [np.zeros((num, 4), np.float16)], shape=(num, 4), recipe=recipe)
    (tmp_path / "batches.yaml").write_text("batches: [first, second]\n")
    stage.paths |= {name: tmp_path / name for name in ("embeddings",)}
    stage.paths |= {"manifests": tmp_path / "manifest", "batches": tmp_path / "batches.yaml"}
    with pytest.raises(ValueError, match="batches first, second were embedded by different backbones: run embed again"):
        stage.run(AUTO)


def write_table_of(stage, batch):
    (stage.out / "manifest").mkdir(exist_ok=True)
    shutil.copy(stage.data / "validated/manifest/first.parquet", stage.out / "manifest" / f"{batch}.parquet")


def test_model_without_classes_is_refused(chain):
    backbone = load_bundle(chain.data / "backbone")[0].backbone
    model = Classifier(backbone, {"tags": {"kind": "several", "labels": ["a", "b"]}})
    with pytest.raises(ValueError, match="the model has no target of the kind classes, which alone can be adapted"):
        adapt.sides_of(pd.DataFrame(), model, AUTO)


def test_auto_finds_nothing_in_one_domain(stage, chain, caplog):
    def join(table):
        table["domain"] = "day"

    stage.change_manifest(join)
    caplog.set_level(logging.INFO, "graftline")
    place = stage.run(AUTO)
    assert content(place / "candidate") == content(chain.data / "trained")
    assert read_json(place / "adaptation/adaptation.json") == {"domains": {}}
    assert "adapted to no domain: adapt.targets is auto, which takes domains with at least" in caplog.text


def test_bundle_tells_which_samples_are_unlike_the_trained_ones(stage, chain, tmp_path):
    place = stage.run(asked(unlike=0.1))
    assert content(stage.run(asked(unlike=0.1), out="second")) == content(place)
    assert read_json(place / "adaptation/adaptation.json")["domains"] == {}
    model, lineage = load_bundle(place / "candidate")
    assert lineage["adapt"]["params"]["unlike"] == 0.1
    assert model.unlike.references.dtype.itemsize == 2
    table = pd.read_parquet(chain.data / "validated/manifest/first.parquet")
    heldout = [chain.data / "raw/first" / path for path in table.loc[table["split"] == "heldout", "path"]]
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    predictor = Predictor(place / "candidate", device="cpu")
    day = [path for path in heldout if int(path.name[:3]) % 5 not in (0, 1)]
    answers = predictor.predict(day)
    ids = pd.DataFrame({"sample_id": table.loc[table["split"] == "heldout", "sample_id"]})
    known = with_vectors(
        Reference(answers=ids, accuracy={}, what="samples"), place / "candidate",
        {name: chain.shared[name] for name in ("manifests", "batches", "embeddings", "raw", "store")},
    )  # fmt: skip
    of_label = predictor.predict(heldout).query("target == 'label'")
    assert known.unlike.tolist() == of_label["unlike"].astype(float).tolist()
    assert answers["unlike"].mean() < 0.25
    assert predictor.predict(noise)["unlike"].all()
    assert answers["label"].tolist() == Predictor(stage.paths["trained"], device="cpu").predict(day)["label"].tolist()
    predict(place / "candidate", day[:2], out=tmp_path / "out.csv", device="cpu")
    assert "unlike" in pd.read_csv(tmp_path / "out.csv").columns
    predict(place / "candidate", day[:2], out=tmp_path / "out.csv", device="cpu")  # it may replace earlier predictions


def test_model_that_is_adapted_tells_unlike_samples_too(stage):
    model, _ = load_bundle(stage.run(asked(targets="auto", method="standardise", unlike=0.1)) / "candidate")
    assert model.domains is not None
    assert model.unlike is not None


def test_val_that_is_too_small_for_the_level_gives_the_trained_model_and_a_warning(stage, chain, caplog):
    with caplog.at_level(logging.WARNING, logger="graftline"):
        place = stage.run(asked(unlike=0.001))
    assert "expected at least 999 for adapt.unlike: 0.001" in caplog.text
    assert content(place / "candidate") == content(chain.data / "trained")
