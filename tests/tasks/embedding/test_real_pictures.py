"""How exact the engine is on photographs with ImageNet weights. The tests are skipped without the shared data."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.images.decode import decode_sample
from tasks.machine.cores import one_thread_each
from tasks.models.weights import load_backbone

SHARED = Path(__file__).parents[4] / "shared"
PACS, SIGNS = SHARED / "data/pacs-photo-cartoon.tar", SHARED / "data/sign-digits.tar"
WEIGHTS = SHARED / "weights/squeezenet1_1-imagenet.safetensors"
LARGE = 100_000  # bytes; of the images of hands, only the photographs from telephones are that large

pytestmark = pytest.mark.skipif(
    not (PACS.is_file() and SIGNS.is_file() and WEIGHTS.is_file()),
    reason="the photographs and the ImageNet weights are not on this machine",
)


def photographs(archive, *, every=1, least_bytes=1):
    with tarfile.open(archive) as tar:
        members = sorted(
            (member for member in tar if member.isfile() and member.size >= least_bytes), key=lambda member: member.name
        )
        return [tar.extractfile(member).read() for member in members[::every]]


def enlarged(content, *, times):
    image = Image.open(io.BytesIO(content)).convert("RGB")
    stream = io.BytesIO()
    image.resize((image.width * times, image.height * times), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def embed(contents, *, decode="full", precision="fp32"):
    """Return the vectors (n, dim)."""
    backbone = load_backbone("squeezenet1_1", weights=str(WEIGHTS), decode=decode)
    transform = backbone.transform
    images = [decode_sample(content, shorter_side=transform.shorter_side) for content in contents]
    pixels = torch.stack([transform.prepare(image) for image in images])
    embedder = Embedder(backbone, plan(replace(AUTO, device="cpu", precision=precision, minibatch_size=16)))
    with one_thread_each():
        return torch.cat([embedder(minibatch) for minibatch in pixels.split(16)])


def least_cosine(left, right):
    return torch.cosine_similarity(left.half().double(), right.half().double(), dim=1).min().item()


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor cannot compute with bf16")
def test_bf16_agrees_with_fp32_for_every_photograph():
    contents = photographs(PACS, every=20)
    assert len(contents) == 201
    assert least_cosine(embed(contents, precision="bf16"), embed(contents)) >= 0.999


@pytest.mark.parametrize("times", [3, 10])
def test_scaled_decoding_agrees_with_full_for_every_photograph(times):
    contents = [enlarged(content, times=times) for content in photographs(PACS, every=100)]
    scaled = decode_sample(contents[0], shorter_side=256)
    assert min(scaled.size) < min(Image.open(io.BytesIO(contents[0])).size)
    assert least_cosine(embed(contents, decode="scaled"), embed(contents)) >= 0.99


def test_scaled_decoding_agrees_with_full_for_telephone_photographs():
    contents = photographs(SIGNS, least_bytes=LARGE)
    assert contents
    assert least_cosine(embed(contents, decode="scaled"), embed(contents)) >= 0.99
