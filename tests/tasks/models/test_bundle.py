import hashlib
import json
import os
import pickle
import re
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision import models

from flows.in_use.exchange import put_in_place
from tasks.models import bundle
from tasks.models.architecture import build_network_outline, classification_layer, num_parameters
from tasks.models.bundle import DESCRIPTION, LEAST_WEIGHTS, WEIGHTS, load_bundle, save_bundle
from tasks.models.classifier import Classifier
from tasks.models.description import with_digest
from tasks.models.weights import load_backbone
from tests.kit.plain import plain_probabilities

PIXELS = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

SANE = {"resize_size": 32, "crop_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.fixture
def saved(classifier, tmp_path):
    """Save a bundle and return its folder."""
    save_bundle(tmp_path, classifier(), lineage={"fingerprint": "f"})
    return tmp_path


def describe(folder, **changes):
    """Forge the description: change keys (None removes one), then set both digests to match the files."""
    path = folder / DESCRIPTION
    weights = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    content = json.loads(path.read_text("utf-8")) | {"weights_sha256": weights} | changes
    content = with_digest({key: value for key, value in content.items() if value is not None or key not in changes})
    path.write_text(json.dumps(content), "utf-8")


def test_bundle_gives_identical_probabilities(classifier, tmp_path):
    model = classifier({"animal": ["cat", "dog"], "place": ["in", "out", "far"]})
    save_bundle(tmp_path, model, lineage={"seed": 3})
    back, lineage = load_bundle(tmp_path)
    assert lineage == {"seed": 3}
    assert back.targets == model.targets
    assert back.backbone.transform == model.backbone.transform
    assert back.backbone.fingerprint() == model.backbone.fingerprint()
    for one, other in zip(plain_probabilities(model, [PIXELS]), plain_probabilities(back, [PIXELS]), strict=True):
        assert torch.equal(one, other)


def test_backbone_of_powers_survives_a_bundle_and_another_keeps_its_description(tmp_path):
    for power in (0.5, 1.0):
        backbone = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32, power=power)
        save_bundle(tmp_path, Classifier(backbone, {}), lineage={})
        assert load_bundle(tmp_path)[0].backbone.fingerprint() == backbone.fingerprint()
        assert json.loads((tmp_path / DESCRIPTION).read_text("utf-8")).get("power", 1.0) == power
    assert "power" not in json.loads((tmp_path / DESCRIPTION).read_text("utf-8"))


def test_backbone_that_looks_at_an_image_in_several_ways_survives_a_bundle(tmp_path):
    backbone = load_backbone(
        "shufflenet_v2_x0_5", weights="random", image_size=32, flip=True, resolutions=[16], features=["stage2", "conv5"]
    )
    save_bundle(tmp_path, Classifier(backbone, {}), lineage={})
    again = load_bundle(tmp_path)[0].backbone
    assert again.fingerprint() == backbone.fingerprint()
    assert (again.flip, again.resolutions) == (True, (16,))
    plain = load_backbone("shufflenet_v2_x0_5", weights="random", image_size=32)
    save_bundle(tmp_path, Classifier(plain, {}), lineage={})
    assert not {"flip", "resolutions"} & json.loads((tmp_path / DESCRIPTION).read_text("utf-8")).keys()


@pytest.mark.parametrize("architecture", ["mnasnet0_5", "swin_t", "squeezenet1_1", "regnet_x_400mf"])
def test_backbone_of_any_family_survives_a_bundle(tmp_path, architecture):
    backbone = load_backbone(architecture, weights="random", image_size=64)
    save_bundle(tmp_path, Classifier(backbone, {}), lineage={})
    assert load_bundle(tmp_path)[0].backbone.fingerprint() == backbone.fingerprint()


def test_equal_models_give_equal_bytes(classifier, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        save_bundle(tmp_path / name, classifier(), lineage={})
    for file in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_torn_weights_are_refused_by_name(saved, kept):
    path = saved / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=f"{saved} is not a whole bundle"):
        load_bundle(saved)


def test_torn_description_is_refused_by_name(saved):
    path = saved / DESCRIPTION
    path.write_text(path.read_text("utf-8")[:-20], "utf-8")
    with pytest.raises(ValueError, match=r"model\.json is not JSON"):
        load_bundle(saved)


def test_error_names_a_missing_description(saved):
    (saved / DESCRIPTION).unlink()
    with pytest.raises(ValueError, match=r"model\.json is missing: run the stage that makes it, or `dvc pull`"):
        load_bundle(saved)


def test_error_names_missing_weights(saved):
    (saved / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=rf"{saved} is not a whole bundle \(.*model\.safetensors"):
        load_bundle(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": {"label": ["cat", "dog"]}},
        {"classes": None},
        {"architecture": "shufflenet_v2_x1_0"},
        {"architecture": None},
        {"transform": None},
        {"transform": {"crop_size": 32}},
        {"transform": [32]},
        {"lineage": None},
    ],
)
def test_description_that_does_not_fit_the_weights_is_refused_by_name(saved, changes):
    describe(saved, **changes)
    with pytest.raises(ValueError, match=f"{saved} is not a whole bundle") as refused:
        load_bundle(saved)
    assert "\n" not in str(refused.value)


def test_tensor_of_another_shape_is_refused_by_name(saved):
    tensors = load_file(saved / WEIGHTS)
    save_file(tensors | {"heads.0.bias": torch.zeros(5)}, saved / WEIGHTS)
    describe(saved)
    with pytest.raises(ValueError, match=r"is not a whole bundle \(.*heads\.0\.bias"):
        load_bundle(saved)


def test_hidden_layer_and_temperature_survive_a_bundle(classifier, tmp_path):
    model = Classifier(
        classifier().backbone, {"label": ["a", "b"]}, hidden_features=8, temperatures={"label": 2.5}
    ).eval()
    save_bundle(tmp_path, model, lineage={})
    back, _ = load_bundle(tmp_path)
    assert (back.hidden_features, back.temperatures) == (8, {"label": 2.5})
    assert torch.equal(plain_probabilities(model, [PIXELS])[0], plain_probabilities(back, [PIXELS])[0])


def test_weights_that_were_exchanged_are_refused(saved, classifier):
    other = saved / "other"
    other.mkdir()
    save_bundle(other, classifier(seed=1), lineage={})
    (other / WEIGHTS).replace(saved / WEIGHTS)
    with pytest.raises(ValueError, match=r"has SHA-256 [0-9a-f]{12}, expected [0-9a-f]{12}"):
        load_bundle(saved)


@pytest.mark.parametrize("key", ["weights_sha256", "description_sha256"])
def test_bundle_without_a_digest_is_refused(saved, key):
    path = saved / DESCRIPTION
    content = json.loads(path.read_text("utf-8"))
    del content[key]
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=f"{key} Field required"):
        load_bundle(saved)


@pytest.mark.parametrize(
    "changes", [{"classes": {"label": ["eel", "dog", "cat"]}}, {"transform": SANE | {"mean": [0.4] * 3}}]
)
def test_possible_description_that_was_changed_by_hand_is_refused(saved, changes):
    path = saved / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    with pytest.raises(ValueError, match=r"model\.json is torn, or was changed"):
        load_bundle(saved)


def test_large_network_is_not_built_for_a_small_file(saved, monkeypatch):
    monkeypatch.setattr("tasks.models.bundle.grafted", lambda *_: pytest.fail("a network was built"))
    (saved / WEIGHTS).write_bytes((2).to_bytes(8, "little") + b"{}")
    describe(saved, architecture="regnet_y_128gf", transform=SANE | {"crop_size": 1024})
    with pytest.raises(ValueError, match="its weights have 0 numbers, expected at least 64481289"):
        load_bundle(saved)


@pytest.mark.parametrize("architecture", models.list_models(module=models))
def test_every_network_without_its_classes_has_more_weights_than_the_least(architecture):
    network = build_network_outline(architecture)
    network.set_submodule(classification_layer(network), torch.nn.Identity())
    weights = sum(tensor.numel() for tensor in network.state_dict().values())
    assert weights > 2 * LEAST_WEIGHTS * num_parameters(architecture)


@pytest.mark.parametrize("archive", [True, False])
def test_pickle_in_disguise_is_refused_and_never_run(saved, tmp_path, archive):
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return ran.touch, ()

    if archive:
        torch.save({"heads.0.bias": Trap()}, saved / WEIGHTS)
    else:
        (saved / WEIGHTS).write_bytes(pickle.dumps(Trap()))
    describe(saved)
    with pytest.raises(ValueError, match=r"pickle.*expected safetensors"):
        load_bundle(saved)
    assert not ran.exists()


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_link_that_leaves_the_bundle_is_refused(saved, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (saved / name).rename(elsewhere / name)
    (saved / name).symlink_to(elsewhere / name)
    with pytest.raises(ValueError, match=f"{name} is a link that leads out of the bundle"):
        load_bundle(saved)


def test_link_of_dvc_into_its_cache_is_followed(saved, tmp_path):
    bundle = tmp_path / "project/data/models/candidate"
    bundle.mkdir(parents=True)
    (saved / DESCRIPTION).rename(bundle / DESCRIPTION)
    kept = tmp_path / "project/.dvc/cache/files/md5/ab" / ("c" * 30)
    kept.parent.mkdir(parents=True)
    (saved / WEIGHTS).rename(kept)
    (bundle / WEIGHTS).symlink_to(kept)
    load_bundle(bundle)
    (tmp_path / "project/.dvc").rename(tmp_path / "other")
    (bundle / WEIGHTS).unlink()
    (bundle / WEIGHTS).symlink_to(tmp_path / "other/cache/files/md5/ab" / kept.name)
    with pytest.raises(ValueError, match="is a link that leads out of the bundle"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION])
def test_pipe_is_refused_and_not_waited_for(saved, name):
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises(ValueError, match="not a regular file"):
        load_bundle(saved)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../secret", "a/../../b", "C:\\x", "~/x", "file:///x", "a\\..\\b"])
@pytest.mark.parametrize("place", ["architecture", "features", "lineage"])
def test_path_that_leaves_the_bundle_is_refused_in_every_field(saved, path, place):
    value = {"architecture": path, "features": [path], "lineage": {"params": {"weights": [path]}}}[place]
    describe(saved, **{place: value})
    with pytest.raises(ValueError, match="which leads out of the bundle"):
        load_bundle(saved)


def test_name_of_a_class_may_look_like_a_path(classifier, tmp_path):
    save_bundle(tmp_path, classifier({"../t": ["/", "n/a", ".."]}), lineage={})
    assert load_bundle(tmp_path)[0].targets["../t"].names == ("/", "n/a", "..")


@pytest.mark.parametrize("step", ["check_content", "read_header", "read_tensors"])
def test_bundle_that_is_replaced_while_it_is_read_is_read_whole(classifier, tmp_path, monkeypatch, step):
    place, new = tmp_path / "model", tmp_path / "new"
    for seed, folder in enumerate((place, new)):
        folder.mkdir()
        save_bundle(folder, classifier(seed=seed), lineage={"seed": seed})
    go_on = getattr(bundle, step)

    def promote_first(*args, **options):
        put_in_place(new, place, old=tmp_path / "old")
        shutil.rmtree(tmp_path / "old")
        return go_on(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(bundle, step, promote_first)
        old, lineage = load_bundle(place)
    assert lineage == {"seed": 0}
    assert old.backbone.fingerprint() == classifier(seed=0).backbone.fingerprint()
    assert load_bundle(place)[1] == {"seed": 1}


def test_negative_variance_is_refused_by_name(saved):
    tensors = load_file(saved / WEIGHTS)
    name = next(name for name in tensors if name.endswith("running_var"))
    tensors[name][1] = -1.0
    save_file(tensors, saved / WEIGHTS)
    describe(saved)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} has a variance below 0"):
        load_bundle(saved)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weight_that_is_not_finite_is_refused_by_name(saved, number):
    tensors = load_file(saved / WEIGHTS)
    tensors["heads.0.bias"][1] = number
    save_file(tensors, saved / WEIGHTS)
    describe(saved)
    with pytest.raises(ValueError, match=r"heads\.0\.bias has numbers that are not finite"):
        load_bundle(saved)


def test_tensor_of_another_type_is_refused_by_name(saved):
    tensors = load_file(saved / WEIGHTS)
    save_file(tensors | {"heads.0.bias": tensors["heads.0.bias"].double()}, saved / WEIGHTS)
    describe(saved)
    with pytest.raises(ValueError, match=r"heads\.0\.bias is of type F64"):
        load_bundle(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "os.system"}, "architecture 'os.system' is not one of torchvision's classifiers"),
        ({"transform": SANE | {"crop_size": 10**9}}, "transform.crop_size"),
        ({"transform": SANE | {"resize_size": 0}}, "transform.resize_size"),
        ({"transform": SANE | {"std": [0.5, 0.0, 0.5]}}, "transform.std"),
        ({"transform": SANE | {"mean": [0.5, 1e308, 0.5]}}, "transform.mean"),
        ({"transform": SANE | {"mean": [0.5]}}, "transform.mean"),
        ({"transform": SANE | {"interpolation": "magic"}}, "transform.interpolation"),
        ({"hidden_features": 10**9}, "hidden_features"),
        ({"hidden_features": 8}, "its weights do not fit"),
        ({"temperatures": {"label": 0.0}}, "temperatures.label"),
        ({"temperatures": {"label": 1e-320}}, "temperatures.label"),
        ({"temperatures": {}}, "temperatures lack the target 'label'"),
        ({"temperatures": {"label": float("nan")}}, "temperatures.label expected a finite number"),
        ({"temperatures": {"other": 1.0}}, "temperatures name the unknown target 'other'"),
        ({"classes": {"label": ["cat", "cat", "eel"]}}, "target 'label': a class, label or step is there twice"),
        ({"classes": {"label": []}}, "target 'label': List should have at least 1 item"),
        ({"classes": {"label": {"kind": "several", "labels": []}}}, "the target 'label' has no labels"),
        ({"classes": {str(n): ["cat"] for n in range(1001)}}, "classes Dictionary should have at most 1000 items"),
        (
            {"temperatures": {str(n): 1.0 for n in range(1001)}},
            "temperatures Dictionary should have at most 1000 items",
        ),
        ({"classes": ["cat"]}, "classes"),
        ({"features": ["stage2", "nowhere"]}, "nowhere"),
        ({"weights_sha256": "abc"}, "weights_sha256"),
        ({"lineage": {"loss": float("inf")}}, "a number is inf"),
    ],
)
def test_impossible_value_is_refused_by_name_before_any_weight_is_read(saved, monkeypatch, changes, message):
    monkeypatch.setattr("tasks.models.bundle.read_tensors", lambda path: pytest.fail("the weights were read"))
    describe(saved, **changes)
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        load_bundle(saved)
    assert "\n" not in str(refused.value)


def test_description_of_absurd_depth_or_size_is_refused(saved):
    (saved / DESCRIPTION).write_text('{"a": ' * 100_000 + "1" + "}" * 100_000, "utf-8")
    with pytest.raises(ValueError, match="not JSON"):
        load_bundle(saved)
    with (saved / DESCRIPTION).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match="bytes, expected at most"):
        load_bundle(saved)


def test_lineage_of_many_texts_costs_the_same_at_any_depth(saved):
    seconds = []
    for depth in (1, 300):
        lineage = {"texts": [""] * 200_000}
        for _ in range(depth):
            lineage = {"deeper": lineage}
        describe(saved, lineage=lineage)
        start = time.process_time()
        assert load_bundle(saved)[1] == lineage
        seconds.append(time.process_time() - start)
    assert seconds[1] < seconds[0] + 1


def test_heads_that_the_weights_lack_take_no_memory(tmp_path):
    """The description asks for heads of 64 GiB, on RegNet, which torchvision cannot build without values."""
    save_bundle(tmp_path, Classifier(load_backbone("regnet_x_400mf", weights="random", image_size=32), {}), lineage={})
    classes = {"label": [str(number) for number in range(2**18)]}
    describe(tmp_path, classes=classes, temperatures={"label": 1.0}, hidden_features=2**16)
    with pytest.raises(ValueError, match="its weights do not fit: they lack heads"):
        load_bundle(tmp_path)


def test_large_network_that_the_weights_lack_is_not_built_and_not_run(saved, monkeypatch):
    """RegNet too, whose widths torchvision computes with tensors."""
    numbers = LEAST_WEIGHTS * num_parameters("regnet_x_400mf")
    save_file({"stem": torch.zeros(int(numbers) + 1)}, saved / WEIGHTS)
    describe(saved, architecture="regnet_x_400mf", transform=SANE | {"crop_size": 1024})
    made = []
    monkeypatch.setattr("torch.nn.init.normal_", lambda tensor, **options: made.append(tensor))
    with pytest.raises(ValueError, match="its weights do not fit: they lack"):
        load_bundle(saved)
    assert made
    assert all(tensor.is_meta for tensor in made)


@pytest.mark.parametrize(
    ("place", "message"), [("gone", "is not there"), ("file", "is a file"), ("empty", "holds neither")]
)
def test_place_without_a_bundle_is_refused_with_what_to_name(tmp_path, place, message):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=rf"{place} {message}.*: name the folder of a bundle; the model in use is"):
        load_bundle(tmp_path / place)


def test_header_that_claims_more_than_the_file_has_is_refused(saved):
    content = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") + content[8:])
    describe(saved)
    with pytest.raises(ValueError, match="cut off, or is not a safetensors file"):
        load_bundle(saved)


# several trunks


@pytest.fixture
def planted(classifier, tmp_path):
    """Save a bundle of two targets, each with a trunk, and return its folder."""
    model = classifier({"animal": ["cat", "dog"], "place": ["in", "out"]})
    model.plant([classifier(seed=1).backbone], {"place": 1})
    save_bundle(tmp_path, model, lineage={"trunks": {"animal": "head", "../place": "own"}})
    return tmp_path


def test_trunks_survive_a_bundle(planted, classifier):
    back, _ = load_bundle(planted)
    assert back.trunk_of == {"animal": 0, "place": 1}
    found = [trunk.fingerprint() for trunk in back.all_trunks()]
    assert found == [classifier(seed=seed).backbone.fingerprint() for seed in (0, 1)]
    assert {name.split(".")[0] for name in load_file(planted / WEIGHTS)} == {"backbone", "heads", "trunks"}


def test_bundle_of_one_trunk_does_not_name_trunks(saved):
    assert "trunks" not in json.loads((saved / DESCRIPTION).read_text("utf-8"))
    assert not any(name.startswith("trunks") for name in load_file(saved / WEIGHTS))


@pytest.mark.parametrize(
    ("trunks", "fault"),
    [
        ({"animal": 0, "place": 2}, "trunks are numbered"),
        ({"animal": 1, "place": 1}, "trunks are numbered"),
        ({"animal": 0, "place": 0}, "trunks are numbered"),
        ({"animal": 0, "place": -1}, "trunks are numbered"),
        ({"animal": 0}, "do not name the same targets"),
        ({"animal": 0, "place": "1"}, "valid integer"),
        (None, "unknown trunks.1"),
    ],
)
def test_numbers_of_trunks_that_do_not_fit_are_refused(planted, trunks, fault):
    describe(planted, trunks=trunks)
    with pytest.raises(ValueError, match=f"is not a whole bundle .*{fault}"):
        load_bundle(planted)


def test_trunk_whose_weights_lack_a_tensor_or_are_not_finite_is_refused(planted):
    tensors = load_file(planted / WEIGHTS)
    name = "trunks.1.network.conv1.0.weight"
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, planted / WEIGHTS)
    describe(planted)
    with pytest.raises(ValueError, match=f"lack {name}"):
        load_bundle(planted)
    save_file(tensors | {name: tensors[name] * torch.nan}, planted / WEIGHTS)
    describe(planted)
    with pytest.raises(ValueError, match=f"{name} has numbers that are not finite"):
        load_bundle(planted)


def test_description_that_asks_for_more_trunks_than_there_are_weights_is_refused_before_one_is_built(
    saved, monkeypatch
):
    names = [f"t{number}" for number in range(300)]
    describe(
        saved, classes={name: ["a", "b"] for name in names}, temperatures=dict.fromkeys(names, 1.0),
        trunks={name: number for number, name in enumerate(names)},
    )  # fmt: skip
    monkeypatch.setattr(bundle, "grafted", None)
    with pytest.raises(ValueError, match=r"its weights have \d+ numbers, expected at least"):
        load_bundle(saved)
