"""Read the tokenizer of an encoder from its tokenizer.json, which may come from a stranger."""

import json
from typing import Any

from tasks.machine.extras import require

MOST_BYTES = 64 * 2**20
MOST_ADDED_TOKENS = 10_000
# the components whose work grows with the text alone; by the part of tokenizer.json
ALLOWED = {
    "model": {"WordPiece", "BPE", "Unigram", "WordLevel"},
    "normalizer": {
        "BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Replace", "Precompiled",
        "Prepend", "Sequence",
    },
    "pre_tokenizer": {
        "BertPreTokenizer", "Whitespace", "WhitespaceSplit", "ByteLevel", "Metaspace", "Punctuation", "Digits",
        "Sequence",
    },
    "post_processor": {"TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence"},
}  # fmt: skip
# regular expressions of published encoders; any other may take for ever on one text
KNOWN_EXPRESSIONS = {" {2,}", r"\s+", r"[\r\n\t]"}


def load_tokenizer(content: bytes, *, vocab_size: int) -> Any:
    """Return the `tokenizers.Tokenizer` of a tokenizer.json.

    Its own truncation and padding are left out, because the encoder's limit is the one that counts. A special token in
    a text, such as [SEP], stays text.

    Args:
        vocab_size: the rows of the encoder's embedding.

    Raises:
        MissingExtraError: the library is not installed.
        ValueError: the file is too large, is not JSON, has a component that is not allowed, or has an id that the
            encoder does not know.
    """
    require("text")
    from tokenizers import Tokenizer

    if len(content) > MOST_BYTES:
        raise ValueError(f"tokenizer.json has {len(content)} bytes, expected at most {MOST_BYTES}")
    try:
        parts = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"tokenizer.json is not JSON ({error})") from error
    _check(parts)
    kept = parts | {"truncation": None, "padding": None, "decoder": None}
    try:
        tokenizer = Tokenizer.from_str(json.dumps(kept))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"tokenizer.json cannot be read ({' '.join(str(error).split())[:200]})") from error
    tokenizer.encode_special_tokens = True
    if (largest := max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)) >= vocab_size:
        raise ValueError(f"tokenizer.json has the token id {largest}, expected ids below {vocab_size}, the encoder's")
    return tokenizer


def _check(parts: Any) -> None:
    if not isinstance(parts, dict) or not isinstance(parts.get("model"), dict):
        raise ValueError("tokenizer.json has no model, expected one as the library tokenizers writes it")
    added = parts.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MOST_ADDED_TOKENS:
        raise ValueError(f"tokenizer.json has more than {MOST_ADDED_TOKENS} added tokens")
    for part, allowed in ALLOWED.items():
        for component in _components(parts.get(part)):
            kind = component.get("type", "WordPiece" if part == "model" else None)
            if kind not in allowed:
                raise ValueError(
                    f"tokenizer.json has the {part} {str(kind)[:60]!r}, expected {', '.join(sorted(allowed))}"
                )
            pattern = component.get("pattern")
            expression = pattern.get("Regex") if isinstance(pattern, dict) else None
            if expression is not None and expression not in KNOWN_EXPRESSIONS:
                raise ValueError(
                    f"tokenizer.json has the regular expression {str(expression)[:60]!r}, which is not known"
                )


def _components(component: Any, depth: int = 0) -> list[dict[str, Any]]:
    """Return a component and those inside it."""
    if component is None:
        return []
    if not isinstance(component, dict) or depth > 3:
        raise ValueError("tokenizer.json has a component that is not one of the library tokenizers")
    inside = [inner for name in ("normalizers", "pretokenizers", "processors") for inner in component.get(name) or []]
    return [component, *(found for inner in inside for found in _components(inner, depth + 1))]
