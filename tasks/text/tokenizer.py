"""Read the tokenizer of an encoder from its tokenizer.json, which may come from a stranger."""

import base64
import binascii
import json
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar

from tasks.machine.extras import require

Result = TypeVar("Result")

MOST_BYTES = 64 * 2**20
MOST_ADDED_TOKENS = 10_000
MOST_COMPONENTS = 32  # of one part; published ones have up to 8
MOST_DEPTH = 3  # of components inside each other
MOST_GROWTH = 16  # of a text in the normalizer; published ones only shorten it, or put one character before it
MOST_REPLACEMENT = 64  # bytes that stand for one character after compatibility normalization; Unicode's longest has 33
MOST_AFFIX = 32  # characters that mark the parts of a word, such as ##
MOST_WORD = 200  # characters of a word that WordPiece splits: its time grows with their third power
# the components whose work grows with the text alone; by the part of tokenizer.json
ALLOWED = {
    "model": {"WordPiece", "BPE", "Unigram", "WordLevel"},
    "normalizer": {
        "BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents", "Strip", "Replace",
        "Precompiled", "Prepend", "Sequence",
    },
    "pre_tokenizer": {
        "BertPreTokenizer", "Whitespace", "WhitespaceSplit", "ByteLevel", "Metaspace", "Punctuation", "Digits", "Split",
        "Sequence",
    },
    "post_processor": {"TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence"},
}  # fmt: skip
# regular expressions of published encoders; any other may take for ever on one text
KNOWN_EXPRESSIONS = {
    " {2,}", r"\s+", r"[\r\n\t]", r"\s{2,}|[\n\r\t]",
    # Llama 3's words, which EuroBERT has too
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+",
}  # fmt: skip


def load_tokenizer(content: bytes, *, vocab_size: int) -> Any:
    """Return the `tokenizers.Tokenizer` of a tokenizer.json.

    Its own truncation and padding are left out, because the encoder's limit is the one that counts. Random
    tokenisation is left out, too. A special token in a text, such as [SEP], stays text.

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
    if "dropout" in parts["model"]:
        kept["model"] = parts["model"] | {"dropout": None}
    tokenizer = without_panic(lambda: Tokenizer.from_str(json.dumps(kept)))
    tokenizer.encode_special_tokens = True
    if (largest := max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)) >= vocab_size:
        raise ValueError(f"tokenizer.json has the token id {largest}, expected ids below {vocab_size}, the encoder's")
    return tokenizer


def without_panic(work: Callable[[], Result]) -> Result:
    """Return the result of a call of the library tokenizers.

    Raises ValueError where the library cannot read the file, or panics: a panic is no Exception in Python.
    """
    try:
        return work()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ValueError(f"tokenizer.json cannot be read ({' '.join(str(error).split())[:200]})") from error


def unknown_id(content: bytes) -> int | None:
    """Return the id of the token for unknown words; None where the vocabulary covers every text."""
    model = json.loads(content)["model"]
    if "unk_id" in model:
        return None if model.get("byte_fallback") else model["unk_id"]
    vocabulary = model.get("vocab")
    return vocabulary.get(model.get("unk_token")) if isinstance(vocabulary, dict) else None


def _check(parts: Any) -> None:
    if not isinstance(parts, dict) or not isinstance(parts.get("model"), dict):
        raise ValueError("tokenizer.json has no model, expected one as the library tokenizers writes it")
    added = parts.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MOST_ADDED_TOKENS:
        raise ValueError(f"tokenizer.json has more than {MOST_ADDED_TOKENS} added tokens")
    for part, allowed in ALLOWED.items():
        components = _components(parts.get(part))
        if len(components) > MOST_COMPONENTS:
            raise ValueError(f"tokenizer.json has {len(components)} components in its {part}, expected few")
        for component in components:
            kind = component.get("type", "WordPiece" if part == "model" else None)
            if kind not in allowed:
                raise ValueError(
                    f"tokenizer.json has the {part} {str(kind)[:60]!r}, expected {', '.join(sorted(allowed))}"
                )
            _check_expression(component)
            if kind == "Precompiled":
                _check_replacements(component.get("precompiled_charsmap"))
        if part == "normalizer":
            _check_growth(components)
    _check_words(parts["model"])


def _components(component: Any, depth: int = 0) -> list[dict[str, Any]]:
    """Return a component and those inside it."""
    if component is None:
        return []
    parts = component if isinstance(component, dict) else {}
    inside = [parts.get(name) or [] for name in ("normalizers", "pretokenizers", "processors")]
    if not isinstance(component, dict) or depth > MOST_DEPTH or not all(isinstance(inner, list) for inner in inside):
        raise ValueError("tokenizer.json has a component that is not one of the library tokenizers")
    return [component, *(found for inner in chain(*inside) for found in _components(inner, depth + 1))]


def _check_expression(component: dict[str, Any]) -> None:
    pattern = component.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    if expression is not None and expression not in KNOWN_EXPRESSIONS:
        raise ValueError(f"tokenizer.json has the regular expression {str(expression)[:60]!r}, which is not known")


def _check_growth(normalizers: list[dict[str, Any]]) -> None:
    """Raise ValueError where replacements make a text many times longer."""
    growth = 1.0
    for component in normalizers:
        pattern = component.get("pattern")
        replaced = pattern.get("String") if isinstance(pattern, dict) else None
        growth *= max(len(str(component.get("content", ""))) / max(len(str(replaced or "")), 1), 1)
        growth *= max(len(str(component.get("prepend", ""))), 1)
    if growth > MOST_GROWTH:
        raise ValueError(f"tokenizer.json makes a text {growth:.0f} times longer, expected at most {MOST_GROWTH} times")


def _check_replacements(charsmap: Any) -> None:
    """Raise ValueError where a precompiled map puts many bytes in the place of a character.

    The map is a trie, its size in bytes before it, and behind it the replacements, each with a zero byte at its end.
    """
    try:
        content = base64.b64decode(str(charsmap), validate=True)
    except (binascii.Error, ValueError):
        content = b""
    replacements = content[4 + int.from_bytes(content[:4], "little") :].split(b"\0")
    if not content or max(map(len, replacements)) > MOST_REPLACEMENT:
        raise ValueError("tokenizer.json has a precompiled map that is damaged, or makes a text far longer")


def _check_words(model: dict[str, Any]) -> None:
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if len(str(model.get(name))) > MOST_AFFIX:
            raise ValueError(f"tokenizer.json has a {name} of more than {MOST_AFFIX} characters")
    longest = model.get("max_input_chars_per_word", 1)
    if not isinstance(longest, int) or longest > MOST_WORD:
        raise ValueError(f"tokenizer.json splits words of {str(longest)[:40]} characters, expected at most {MOST_WORD}")
