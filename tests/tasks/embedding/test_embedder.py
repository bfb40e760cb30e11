import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch._inductor.config

from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.machine.cores import one_thread_each
from tasks.models.weights import load_backbone

GLYPHS = Path(__file__).parents[3] / "backbones/glyphs.safetensors"
SIZE = 4  # images of a minibatch
NO_BF16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor cannot compute with bf16"
)
PRECISIONS = ["fp32", pytest.param("bf16", marks=NO_BF16)]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(
        "shufflenet_v2_x1_0", weights=str(GLYPHS), features=["stage2", "stage3", "stage4", "conv5"], decode="scaled"
    )


def embedder(backbone, **choices):
    return Embedder(backbone, plan(replace(AUTO, device="cpu", minibatch_size=SIZE, **choices)))


def pixels(*, n, size=64, seed=0):
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def embed(embedder, images):
    with one_thread_each():
        return torch.cat([embedder(minibatch) for minibatch in images.split(SIZE)])


@pytest.fixture(scope="module")
def images(backbone):
    return pixels(n=10, size=backbone.transform.crop_size)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("execution", ["fused", "eager"])
def test_features_are_those_of_the_backbone(backbone, images, precision, execution):
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(images))
    features = embed(embedder(backbone, precision=precision, execution=execution), images)
    assert features.dtype == torch.float32
    assert torch.cosine_similarity(features, expected, dim=1).min() >= 0.999


@pytest.mark.parametrize("precision", PRECISIONS)
def test_features_of_each_resolution_and_mirror_image_are_those_of_the_backbone(images, precision):
    backbone = load_backbone(
        "shufflenet_v2_x1_0", weights=str(GLYPHS), features=["stage2", "conv5"], flip=True, resolutions=[20]
    )
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(images))
    features = embed(embedder(backbone, precision=precision), images)
    assert torch.cosine_similarity(features, expected, dim=1).min() >= 0.999
    assert torch.equal(features[3:4], embed(embedder(backbone, precision=precision), images[3:4]))


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_features_are_those_of_the_backbone(images):
    """The first stage of the network is enough: the compiler takes a minute for all of it."""
    backbone = load_backbone("shufflenet_v2_x1_0", weights=str(GLYPHS), features=["stage2"], decode="scaled")
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(images))
    # one kernel is compiled after the other, each once: no other process and no header is prepared for many
    with torch._inductor.config.patch({"compile_threads": 1, "cpp_cache_precompile_headers": False}):
        features = embed(embedder(backbone, precision="fp32", execution="compiled"), images)
    assert torch.cosine_similarity(features, expected, dim=1).min() >= 0.999


@pytest.mark.parametrize("precision", PRECISIONS)
def test_feature_is_the_same_to_the_bit_with_any_neighbours(backbone, images, precision):
    one = embedder(backbone, precision=precision)
    together = embed(one, images)
    with one_thread_each():
        alone = torch.cat([one(image) for image in images.split(1)])
    assert torch.equal(alone, together)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    assert torch.equal(embed(one, images[order]), together[order])


def test_feature_is_the_same_to_the_bit_in_any_thread_and_from_another_embedder(backbone, images):
    expected = embed(embedder(backbone), images)
    other = embedder(backbone)
    with one_thread_each(), ThreadPoolExecutor(4) as pool:
        features = torch.cat(list(pool.map(other, images.split(SIZE))))
    assert torch.equal(features, expected)


def test_open_choices_are_made_for_the_machine():
    chosen = plan()
    assert chosen.execution == "fused"
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() or torch.cuda.is_available()
    assert (chosen.precision == "bf16") == has_bf16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_chosen_but_missing_is_an_error():
    with pytest.raises(ValueError, match=r"device is cuda, but there is no CUDA device: set it to auto or cpu"):
        plan(replace(AUTO, device="cuda"))


@pytest.mark.skipif(torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor computes with bf16")
def test_bf16_that_is_chosen_but_cannot_be_computed_with_is_an_error():
    with pytest.raises(ValueError, match=r"precision is bf16, but this processor cannot compute with it"):
        plan(replace(AUTO, device="cpu", precision="bf16"))


def test_compiled_execution_without_a_compiler_is_an_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"execution is compiled, but there is no C\+\+ compiler"):
        plan(replace(AUTO, execution="compiled"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_gpu_gives_the_features_of_the_backbone(backbone, images, precision):
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(images))
    on_gpu = Embedder(backbone, plan(replace(AUTO, device="cuda", precision=precision, minibatch_size=SIZE)))
    features = torch.cat([on_gpu(minibatch).cpu() for minibatch in images.split(SIZE)])
    assert torch.cosine_similarity(features, expected, dim=1).min() >= 0.999
