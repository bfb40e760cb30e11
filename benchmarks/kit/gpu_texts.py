"""Texts of made-up words, and a text encoder of BERT's size with random weights, for a machine that has no others."""

import json
from typing import Any

import numpy as np
import torch

from tasks.models.encoder import Encoder
from tasks.text.transform import TextTransform

NUM_WORDS = 8000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [f"w{number}" for number in range(NUM_WORDS)]
MAX_TOKENS = 256
MEDIAN_TOKENS, SPREAD = 50, 0.5  # log-normal, as of news


def encoder(*, layers: int, dim: int) -> Encoder:
    """Return a BERT, which joins its tokens by their mean."""
    torch.manual_seed(0)
    size = len(SPECIAL) + NUM_WORDS
    config = {
        "model_type": "bert", "hidden_size": dim, "num_hidden_layers": layers, "num_attention_heads": dim // 64,
        "intermediate_size": 4 * dim, "vocab_size": size, "max_position_embeddings": 512,
    }  # fmt: skip
    transform = TextTransform(tokenizer_json=tokenizer_json(), vocab_size=size, max_tokens=MAX_TOKENS)
    return Encoder(config, transform=transform, pooling="mean", is_normalised=True)


def tokenizer_json() -> bytes:
    """Return a tokenizer of whole words."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *WORDS])}
    special: list[dict[str, Any]] = [
        {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for number, token in enumerate(SPECIAL)
    ]  # fmt: skip
    pieces = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    described = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": pieces, "pair": pieces,
            "special_tokens": {
                token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    }  # fmt: skip
    return json.dumps(described).encode()


def texts(num: int) -> list[str]:
    """Return texts whose lengths are those of news, in words."""
    chance = np.random.default_rng(0)
    lengths = np.clip(chance.lognormal(np.log(MEDIAN_TOKENS), SPREAD, num), 1, MAX_TOKENS - 2).astype(int)
    return [" ".join(WORDS[word] for word in chance.integers(0, NUM_WORDS, length)) for length in lengths]
