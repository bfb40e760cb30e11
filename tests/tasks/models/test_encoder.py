"""Text encoders of transformers, with random weights: packed texts have the vectors that they have alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tasks.embedding.embedder import AUTO, plan
from tasks.embedding.fused_steps import FusedLinear
from tasks.embedding.packing import TextEmbedder, pack
from tasks.models.encoder import Encoder, build_network
from tests.tasks.text.test_tokenizer import VOCABULARY, transform

pytest.importorskip("transformers", reason="needs the extra [text]: pip install -e '.[text]'")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
         "vocab_size": len(VOCABULARY), "max_position_embeddings": 64}  # fmt: skip
KINDS = {
    "bert": SMALL,
    "roberta": SMALL | {"pad_token_id": 0},
    "xlm-roberta": SMALL | {"pad_token_id": 0},
    "electra": SMALL | {"embedding_size": 32},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": len(VOCABULARY)},
    "albert": SMALL | {"embedding_size": 16},
    "modernbert": SMALL | {"local_attention": 4, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3},
    "mpnet": SMALL | {"pad_token_id": 0},
    "deberta-v2": SMALL | {"pad_token_id": 0},
}
PRECISIONS = [
    "fp32",
    pytest.param("bf16", marks=pytest.mark.skipif(
        not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor cannot compute with bf16"
    )),
]  # fmt: skip
TEXTS = ["a b c", "d", "e f g h i j a b c d e f", "a b", "j i h g", "c c c c c c c c"]


def encoder(kind: str, *, pooling: str = "mean") -> Encoder:
    torch.manual_seed(0)
    config = {"model_type": kind} | KINDS[kind]
    return Encoder(config, transform=transform(max_tokens=16), pooling=pooling, is_normalised=True)


def embedder(made: Encoder) -> TextEmbedder:
    return TextEmbedder(made, plan(replace(AUTO, precision="fp32")))


@pytest.mark.parametrize("kind", KINDS)
def test_vector_is_that_of_transformers_and_depends_on_no_neighbour(kind):
    made = encoder(kind)
    ready = embedder(made)
    windows = [ready.transform.prepare(text) for text in TEXTS]
    vectors = ready(windows)
    for number, [window] in enumerate(windows):
        assert torch.equal(ready([windows[number]])[0], vectors[number])
        with torch.inference_mode():
            if made.is_packable:
                made.network.set_attn_implementation("eager")
            hidden = made.network(input_ids=torch.tensor([window])).last_hidden_state[0]
            if made.is_packable:
                made.network.set_attn_implementation("graftline_packed")
        expected = torch.nn.functional.normalize(hidden.mean(dim=0), dim=0)
        torch.testing.assert_close(vectors[number], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(ready(windows[::-1]), vectors.flip(0))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_bit_depends_on_the_texts_of_a_pass_or_on_their_order(precision):
    config = {"model_type": "bert"} | SMALL
    sizes = {"hidden_size": 72, "intermediate_size": 200, "max_position_embeddings": 603}  # of no whole blocks
    torch.manual_seed(0)
    made = Encoder(config | sizes, transform=transform(max_tokens=603), pooling="mean", is_normalised=False)
    ready = TextEmbedder(made, plan(replace(AUTO, device="cpu", precision=precision)))
    lengths = [3, 250, 17, 603, 64, 5, 130, 511]
    texts = [[torch.randint(len(VOCABULARY), (length,)).tolist()] for length in lengths]
    vectors = ready(texts)
    for number, text in enumerate(texts):
        assert torch.equal(ready([text])[0], vectors[number])
        assert torch.equal(ready([*texts[:3], *texts[5:], text])[-1], vectors[number])
    assert torch.equal(ready(texts[::-1]), vectors.flip(0))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_linear_layers_of_packed_texts_are_steps_of_onednn_and_the_encoder_keeps_its_own(precision):
    made = encoder("bert")
    before = made.fingerprint()
    ready = TextEmbedder(made, plan(replace(AUTO, device="cpu", precision=precision)))
    kinds = {type(part) for part in ready.passes.network.modules()}
    assert FusedLinear in kinds
    assert nn.Linear not in kinds
    assert made.fingerprint() == before


def test_which_encoders_are_packed():
    assert [kind for kind in KINDS if not encoder(kind).is_packable] == ["mpnet", "deberta-v2"]


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_other_poolings_give_other_vectors(pooling):
    windows = transform(max_tokens=16).prepare("a b c")
    mean, other = (embedder(encoder("bert", pooling=name))([windows]) for name in ("mean", pooling))
    assert not torch.allclose(mean, other)


def test_passes_hold_every_window_once_and_never_more_than_their_size():
    lengths = [int(length) for length in torch.randint(1, 60, (500,), generator=torch.Generator().manual_seed(0))]
    passes = pack(lengths, 64)
    assert sorted(place for one in passes for place in one) == list(range(500))
    assert max(sum(lengths[place] for place in one) for one in passes) <= 64
    assert sum(lengths) / (64 * len(passes)) > 0.95


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "no model_type"),
        ({"model_type": "bert", "num_hidden_layers": 10**6}, "num_hidden_layers 1000000"),
        ({"model_type": "bert", "hidden_size": "32"}, "hidden_size 32"),
        ({"model_type": "bert", "vocab_size": True}, "vocab_size True"),
        ({"model_type": "distilbert", "n_layers": 10**6}, "n_layers 1000000, expected at most 256"),
        ({"model_type": "distilbert", "n_layers": 100}, "num_hidden_layers 100"),
        ({"model_type": "distilbert", "dim": 10**6}, "hidden_size 1000000"),
        ({"model_type": "albert", "inner_group_num": 10**9}, "inner_group_num 1000000000, expected at most 256"),
        ({"model_type": "bert", "more": [{"chunk": -(10**10)}]}, "chunk -10000000000, expected at most 1048576"),
        ({"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}, "'gpt2', expected an encoder of texts"),
    ],
)
def test_size_beyond_bounds_and_decoder_are_refused_by_name(config, message):
    with pytest.raises(ValueError, match=message):
        build_network(config)


def test_encoder_that_transformers_does_not_have_is_refused():
    with pytest.raises(ValueError, match="'secret', expected an encoder of texts"):
        build_network({"model_type": "secret", "auto_map": {"AutoModel": "evil.Model"}})
