import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tasks.embedding.embedder import Embedder, plan
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
    return Embedder(backbone, plan(device="cpu", minibatch_size=SIZE, **choices))


def pixels(*, n, size=64, seed=0):
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def embed(made, given):
    with one_thread_each():
        return torch.cat([made(each) for each in given.split(SIZE)])


@pytest.fixture(scope="module")
def given(backbone):
    return pixels(n=10, size=backbone.transform.crop_size)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("execution", ["fused", "eager"])
def test_features_are_those_of_the_backbone(backbone, given, precision, execution):
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(given))
    found = embed(embedder(backbone, precision=precision, execution=execution), given)
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found, expected, dim=1).min() >= 0.999


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_features_are_those_of_the_backbone(given):
    """Of a network's first stage: the compiler takes a minute for all of it."""
    backbone = load_backbone("shufflenet_v2_x1_0", weights=str(GLYPHS), features=["stage2"], decode="scaled")
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(given))
    found = embed(embedder(backbone, precision="fp32", execution="compiled"), given)
    assert torch.cosine_similarity(found, expected, dim=1).min() >= 0.999


@pytest.mark.parametrize("precision", PRECISIONS)
def test_feature_is_the_same_to_the_bit_whatever_its_neighbours(backbone, given, precision):
    made = embedder(backbone, precision=precision)
    among = embed(made, given)
    with one_thread_each():
        alone = torch.cat([made(each) for each in given.split(1)])
    assert torch.equal(alone, among)
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(1))
    assert torch.equal(embed(made, given[order]), among[order])


def test_feature_is_the_same_to_the_bit_in_any_thread_and_from_another_embedder(backbone, given):
    expected = embed(embedder(backbone), given)
    made = embedder(backbone)
    with one_thread_each(), ThreadPoolExecutor(4) as pool:
        found = torch.cat(list(pool.map(made, given.split(SIZE))))
    assert torch.equal(found, expected)


def test_choices_that_are_left_open_are_made_for_the_machine():
    chosen = plan()
    assert chosen.execution == "fused"
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() or torch.cuda.is_available()
    assert (chosen.precision == "bf16") == has_bf16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_asked_for_and_not_there_is_told():
    with pytest.raises(ValueError, match=r"device is cuda, and there is no CUDA device: set it to auto or cpu"):
        plan(device="cuda")


@pytest.mark.skipif(torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor computes with bf16")
def test_bf16_that_is_asked_for_and_cannot_be_computed_with_is_told():
    with pytest.raises(ValueError, match=r"precision is bf16, which this processor cannot compute with"):
        plan(device="cpu", precision="bf16")


def test_compiler_that_is_asked_for_and_not_there_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"execution is compiled, and there is no C\+\+ compiler"):
        plan(execution="compiled")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_gpu_gives_the_features_of_the_backbone(backbone, given, precision):
    with torch.inference_mode():
        expected = backbone(backbone.transform.normalize(given))
    made = Embedder(backbone, plan(device="cuda", precision=precision, minibatch_size=SIZE))
    found = torch.cat([made(each).cpu() for each in given.split(SIZE)])
    assert torch.cosine_similarity(found, expected, dim=1).min() >= 0.999
