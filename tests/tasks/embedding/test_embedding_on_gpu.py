"""The engine on a GPU: what it returns is what the backbone returns, and no bit of it depends on a neighbour."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import nn

from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.embedding.fused_steps import CudnnConvolution
from tasks.embedding.packing import HiddenStates, TextEmbedder
from tasks.models.weights import load_backbone

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

SIZE = 8  # images of a minibatch


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    backbone = load_backbone("resnet18", weights="random", image_size=64)
    for part in backbone.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return backbone


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3 * SIZE, 64, 64, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def on_gpu(backbone, *, precision="fp32", **choices):
    return Embedder(backbone, plan(replace(AUTO, device="cuda", precision=precision, minibatch_size=SIZE, **choices)))


def embed(embedder, images):
    return torch.cat([embedder(minibatch).cpu() for minibatch in images.split(SIZE)])


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("bf16", 0.999)])
def test_gpu_gives_the_features_that_a_processor_gives(resnet, images, precision, least):
    with torch.inference_mode():
        expected = resnet(resnet.transform.normalize(images))
    features = embed(on_gpu(resnet, precision=precision), images)
    assert torch.cosine_similarity(features, expected, dim=1).min() >= least


def test_gpu_computes_convolution_sum_and_relu_in_one_step(resnet):
    fused = [part for part in on_gpu(resnet).network.modules() if isinstance(part, CudnnConvolution)]
    assert len(fused) == 17  # all but the three that only change the shape


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gpu_gives_a_feature_the_same_bits_with_any_neighbours(resnet, images, precision):
    one = on_gpu(resnet, precision=precision)
    together = embed(one, images)
    assert torch.equal(torch.cat([one(image).cpu() for image in images.split(1)]), together)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    assert torch.equal(embed(one, images[order]), together[order])
    assert torch.equal(embed(on_gpu(resnet, precision=precision), images), together)


def test_gpu_gives_the_same_bits_to_many_threads_at_once(resnet, images):
    one = on_gpu(resnet)
    expected = embed(one, images)
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda minibatch: one(minibatch).cpu(), images.split(SIZE) * 20))
    assert torch.equal(torch.cat(many), expected.repeat(20, 1))


def test_gpu_gives_the_same_bits_recorded_or_not(resnet, images):
    one = on_gpu(resnet)
    minibatch = images[:SIZE]
    with torch.inference_mode():
        assert torch.equal(one(minibatch), one._features(minibatch.cuda()))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_gpu_gives_a_text_the_vector_that_it_has_alone_on_a_processor(pooling):
    pytest.importorskip("transformers")
    from tests.tasks.models.test_encoder import TEXTS, encoder

    ready = {
        device: TextEmbedder(
            encoder("bert", pooling=pooling), plan(replace(AUTO, device=device, precision="fp32"), modality="text")
        )
        for device in ("cuda", "cpu")
    }
    windows = [ready["cpu"].transform.prepare(text) for text in TEXTS]
    vectors = ready["cuda"](windows).cpu()
    torch.testing.assert_close(vectors, ready["cpu"](windows), atol=1e-5, rtol=1e-4)
    assert torch.equal(ready["cuda"](windows[::-1]).cpu(), vectors.flip(0))
    for number, window in enumerate(windows):
        assert torch.equal(ready["cuda"]([window]).cpu()[0], vectors[number])


def test_gpu_gives_the_hidden_states_that_a_processor_gives():
    pytest.importorskip("transformers")
    from tests.tasks.models.test_encoder import TEXTS, encoder

    made = {}
    for device in ("cuda", "cpu"):
        chosen = plan(replace(AUTO, device=device, precision="fp32"), modality="text")
        states = HiddenStates(encoder("bert"), chosen, boundary=1)
        made[device] = states([states.transform.prepare(text) for text in TEXTS])
    torch.testing.assert_close(made["cuda"], made["cpu"], atol=1e-5, rtol=1e-4)


def test_recipe_names_the_gpu_and_the_libraries_that_choose_its_kernels():
    recipe = plan(replace(AUTO, device="cuda")).recipe()
    assert recipe["device"] == "cuda"
    assert recipe["processor"] == torch.cuda.get_device_name()
    assert str(torch.backends.cudnn.version()) in recipe["libraries"]
