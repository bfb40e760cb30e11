import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from tasks.embedding import execution
from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.embedding.execution import choose_execution, depends_on_neighbours, measured_size, why_refused
from tasks.embedding.quantised import BACKBONE, PIN, quantised_network
from tasks.embedding.ready import make_ready
from tasks.embedding.recipe import recipe
from tasks.embedding.runtimes import part_of
from tasks.images.decode import decode_sample
from tasks.machine.cores import one_thread_each
from tasks.machine.extras import MissingExtraError
from tasks.machine.files import sha256
from tasks.models.weights import load_backbone

SIZE = 8  # images of a minibatch
HAS_OPENVINO = find_spec("openvino") is not None
OPENVINO = pytest.param("openvino", marks=pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed"))


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return load_backbone("resnet18", weights="random", image_size=32)


@pytest.fixture(scope="module")
def pixels():
    return torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def plan_of(execution, **choices):
    return plan(replace(AUTO, device="cpu", minibatch_size=SIZE, execution=execution, **choices))


def in_parts(embedder, pixels, size):
    with one_thread_each():
        return torch.cat([embedder(part) for part in pixels.split(size)])


@pytest.mark.parametrize("execution", ["onnxruntime", OPENVINO])
def test_runtime_gives_the_backbones_features_to_the_same_bits_with_any_neighbours(execution, backbone, pixels):
    embedder = Embedder(backbone, plan_of(execution, precision="fp32"))
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(pixels))
    features = in_parts(embedder, pixels, SIZE)
    assert torch.cosine_similarity(features, expected, dim=1).min() >= 0.99999
    assert torch.equal(in_parts(embedder, pixels, 1), features)
    assert torch.equal(in_parts(embedder, pixels, 7), features)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(1))
    assert torch.equal(in_parts(embedder, pixels[order], SIZE), features[order])


def test_attention_is_computed_by_another_runtime(pixels):
    torch.manual_seed(0)
    backbone = load_backbone("vit_b_32", weights="random", image_size=32)
    embedder = Embedder(backbone, plan_of("onnxruntime"))
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(pixels[:SIZE]))
    assert torch.cosine_similarity(in_parts(embedder, pixels[:SIZE], SIZE), expected, dim=1).min() >= 0.99999


def test_network_that_onnx_lacks_is_an_error():
    backbone = load_backbone("resnet18", weights="random", image_size=32, resolutions=[16])
    with pytest.raises(ValueError, match=r"onnxruntime cannot compute this network .*set embed\.execution to fused"):
        Embedder(backbone, plan_of("onnxruntime"))


def test_recipe_names_the_runtime_and_its_version(backbone):
    embedder = Embedder(backbone, plan_of("onnxruntime"))
    facts = recipe(embedder, "tasks.embedding.engine", handed_in=(decode_sample,), backbone="")
    assert facts["execution"] == "onnxruntime"
    assert facts["precision"] == "fp32"
    assert "onnxruntime" in facts["versions"]


@pytest.fixture
def measured_at_any_speed(monkeypatch):
    """Let small networks be measured, and briefly."""
    monkeypatch.setattr(execution, "LEAST_FLOPS", 0.0)
    monkeypatch.setattr(execution, "ROUND_SECONDS", 0.01)


def test_choice_is_measured_once_and_then_read_from_the_store(backbone, tmp_path, measured_at_any_speed):
    options = replace(AUTO, device="cpu", precision="fp32", minibatch_size=SIZE)
    chosen = make_ready(backbone, options, store=tmp_path).plan.execution
    [path] = (tmp_path / execution.FOLDER).iterdir()
    choice = json.loads(path.read_text())
    assert choice["chosen"] == chosen
    assert {"fused", "onnxruntime"} <= {*choice["seconds"]} | {*choice["refused"]}
    other = "onnxruntime" if chosen == "fused" else "fused"
    path.write_text(json.dumps(choice | {"chosen": other}))
    assert make_ready(backbone, options, store=tmp_path).plan.execution == other
    path.write_text("{}")
    with pytest.raises(ValueError, match="names no execution: remove it, and it is measured again"):
        make_ready(backbone, options, store=tmp_path)


def test_network_that_computes_less_than_to_read_the_file_takes_is_not_measured(backbone, tmp_path):
    chosen = choose_execution(backbone, plan_of("fused", precision="fp32"), store=tmp_path)
    [path] = (tmp_path / execution.FOLDER).iterdir()
    assert chosen.execution == "fused"
    assert json.loads(path.read_text())["seconds"] == {}


def test_what_is_read_without_a_store_is_computed_fused(backbone):
    assert make_ready(backbone, replace(AUTO, device="cpu", precision="fp32")).plan.execution == "fused"


def test_features_that_depend_on_their_neighbours_or_are_others_are_refused(backbone, pixels):
    embedder = Embedder(backbone, plan_of("fused", precision="fp32"))
    noise = pixels[:SIZE]
    with torch.inference_mode(), one_thread_each():
        expected = backbone(backbone.transform.normalize(noise))
        assert why_refused(embedder, noise, expected) == ""
        network = embedder.network
        embedder.network = lambda images: network(images) + 1e-6 * network(images).mean(dim=0)
        assert "neighbours" in why_refused(embedder, noise, expected)
        embedder.network = lambda images: network(images).round()
        assert "below 0.99999" in why_refused(embedder, noise, expected)


@pytest.mark.parametrize("size", [2, 4, 6, 8, 16])
def test_features_that_depend_on_their_neighbours_in_a_part_are_found(backbone, pixels, size):
    embedder = Embedder(backbone, replace(plan_of("fused", precision="fp32"), minibatch_size=size))
    network = embedder.network
    ways = {
        "alone": lambda part: part,
        "mean": lambda part: part + 1e-6 * part.mean(dim=0),
        "place": lambda part: part + 1e-6 * torch.arange(len(part))[:, None],
    }
    with torch.inference_mode(), one_thread_each():
        for name, way in ways.items():
            embedder.network = lambda images, way=way: torch.cat([*map(way, network(images).split(part_of(size)))])
            noise = pixels[:size]
            assert depends_on_neighbours(embedder, noise, embedder(noise)) == (name != "alone")


def test_what_is_measured_has_parts_as_large_as_those_to_come():
    for size in range(1, 70):
        assert part_of(measured_size(size)) == part_of(size)
        assert measured_size(size) <= min(size, execution.NUM_MEASURED)


def test_file_in_8_bits_that_names_no_number_of_images_is_refused(tmp_path):
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["any", 3, 8, 8])
    model = helper.make_model(helper.make_graph([], "empty", [images], [images]))
    helper.set_model_props(model, {BACKBONE: "own"})
    path = tmp_path / "int8.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"is for images of \[0, 3, 8, 8\], and a minibatch is \[4, 3, 8, 8\]"):
        quantised_network(f"{path}{PIN}{sha256(path)}", runtime="onnxruntime", backbone="own", shape=(4, 3, 8, 8))


def test_runtime_on_what_it_cannot_compute_with_is_an_error():
    with pytest.raises(ValueError, match=r"which computes on a processor in fp32 or int8, and not on cpu in bf16"):
        plan_of("onnxruntime", precision="bf16")


@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
def test_openvino_reports_to_nobody_and_serves_threads_that_begin_at_once(tmp_path):
    program = """
import os, sys, threading
from tasks.embedding.runtimes import load_openvino
openvino = load_openvino()
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(4)
def begin():
    barrier.wait()
    openvino.Type.f32.to_dtype()
threads = [threading.Thread(target=begin, daemon=True) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join(20)
print(sum(thread.is_alive() for thread in threads), sys.modules["openvino_telemetry"], flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "0 None\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(HAS_OPENVINO, reason="openvino is installed")
def test_runtime_that_is_not_installed_is_named_with_what_to_do():
    with pytest.raises(MissingExtraError, match=r"openvino is not installed: run `make setup EXTRAS=openvino`"):
        plan_of("openvino")


def test_threads_that_compute_at_once_give_the_same_bits(backbone, pixels):
    from tasks.machine.cores import spread

    embedder = Embedder(backbone, plan_of("onnxruntime"))
    expected = in_parts(embedder, pixels, SIZE)
    with one_thread_each():
        parts = list(spread(pixels.split(SIZE), lambda part: embedder(part).numpy(), num_threads=4))
    assert np.array_equal(np.concatenate(parts), expected.numpy())
