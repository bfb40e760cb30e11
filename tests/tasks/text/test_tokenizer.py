"""Tokenizers from strangers, and the windows of token ids that a text becomes."""

import base64
import json

import pytest

from tasks.text.tokenizer import load_tokenizer
from tasks.text.transform import MOST_WINDOWS, TextTransform

pytest.importorskip("tokenizers", reason="needs the extra [text]: pip install -e '.[text]'")

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij", *(f"##{letter}" for letter in "abcdefghij")]


def described(**changed) -> bytes:
    specials = {name: {"id": name, "ids": [VOCABULARY.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    sequence = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    added = [
        {"id": number, "content": VOCABULARY[number], "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for number in range(5)
    ]  # fmt: skip
    parts = {
        "version": "1.0", "added_tokens": added,
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": sequence, "pair": sequence,
                           "special_tokens": specials},
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {name: at for at, name in enumerate(VOCABULARY)}},
    }  # fmt: skip
    return json.dumps(parts | changed).encode()


def transform(*, max_tokens: int = 8, long: str = "head") -> TextTransform:
    return TextTransform(tokenizer_json=described(), vocab_size=len(VOCABULARY), max_tokens=max_tokens, long=long)


def words(windows) -> list[str]:
    return [" ".join(VOCABULARY[token] for token in window) for window in windows]


def test_truncation_and_padding_of_the_file_are_left_out():
    assert words(transform().prepare("a b c d e")) == ["[CLS] a b c d e [SEP]"]


def test_special_token_in_a_text_is_text():
    assert "[SEP]" not in words(transform(max_tokens=30).prepare("a [SEP] b"))[0][:-6]


def test_longer_text_is_cut_as_the_transform_says():
    text = "a b c d e f g h i j"
    assert words(transform().prepare(text)) == ["[CLS] a b c d e f [SEP]"]
    assert words(transform(long="head_tail").prepare(text)) == ["[CLS] a b c d e j [SEP]"]
    assert words(transform(long="windows").prepare(text)) == [
        "[CLS] a b c d e f [SEP]", "[CLS] d e f g h i [SEP]", "[CLS] g h i j [SEP]"
    ]  # fmt: skip
    assert [transform().is_cut(some) for some in (text, "a b c")] == [True, False]


@pytest.mark.parametrize("long", ["head", "head_tail", "windows"])
@pytest.mark.parametrize("odd", ["", "x" * 1_000_000, "a b " * 250_000, "!" * 1_000_000, "\u4e00" * 300_000, "\0"])
def test_absurd_text_costs_no_more_than_its_window(long, odd):
    windows = transform(long=long).prepare(odd)
    assert 1 <= len(windows) <= MOST_WINDOWS
    assert all(2 <= len(window) <= 8 for window in windows)


def test_share_of_unknown_tokens():
    assert transform().share_unknown("a b zzz") == pytest.approx(1 / 3)
    assert transform().share_unknown("") == 0
    pieces = [["[PAD]", 0.0], ["<unk>", 0.0], ["[CLS]", 0.0], ["[SEP]", 0.0], ["a", -1.0], ["\u2581a", -1.0]]
    unigram = described(model={"type": "Unigram", "unk_id": 1, "vocab": pieces}, added_tokens=[], post_processor=None)
    made = TextTransform(tokenizer_json=unigram, vocab_size=6, max_tokens=8)
    assert made.share_unknown("a z") == pytest.approx(1 / 2)


@pytest.mark.parametrize("long", ["head", "head_tail", "windows"])
@pytest.mark.parametrize(
    "text", ["", "a b zzz", "a b c d e f", "a b c d e f g", "zzz " * 7, "a " * 500, "x" * 10_000, "\u0e2a" * 30]
)
def test_marks_of_a_text_are_what_is_asked_of_it_alone(text, long):
    made = transform(long=long)
    is_cut, share_unknown = made.marks(text, made.prepare(text)).tolist()
    assert is_cut == made.is_cut(text)
    assert share_unknown == round(255 * made.share_unknown(text))


def doubled(times):
    twice = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return {"type": "Sequence", "normalizers": [twice] * times}


def charsmap(replacements=b"\0", *, trie=bytes(1024)):
    """Return a normalizer that maps no character, as sentencepiece's are written."""
    content = len(trie).to_bytes(4, "little") + trie + replacements
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "has no model"),
        (described(model={"type": "Secret"}), "the model 'Secret'"),
        (described(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}}), "regular expression"),
        (
            described(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}),
            "regular expression",
        ),
        (described(added_tokens=[{}] * 10_001), "more than 10000 added tokens"),
        (described(normalizer={"type": "Sequence", "normalizers": [{"type": "Lua"}]}), "the normalizer 'Lua'"),
        (described(model={"type": "WordPiece"}), "cannot be read"),
        (described(normalizer={"type": "Sequence", "normalizers": 7}), "a component that is not one of"),
        (described(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 40}), "41 components"),
        (described(normalizer=doubled(5)), "makes a text 32 times longer"),
        (described(normalizer={"type": "Prepend", "prepend": "a" * 1000}), "makes a text 1000 times longer"),
        (described(normalizer=charsmap(b"a" * 65 + b"\0")), "precompiled map that is damaged"),
        (described(normalizer={"type": "Precompiled", "precompiled_charsmap": "?"}), "precompiled map that is damaged"),
        (described(model={"type": "WordPiece", "max_input_chars_per_word": 10**9}), "splits words of 1000000000"),
        (described(model={"type": "WordPiece", "continuing_subword_prefix": "#" * 99}), "continuing_subword_prefix of"),
    ],
)
def test_strangers_tokenizer_is_refused_by_name(content, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        load_tokenizer(content, vocab_size=len(VOCABULARY))


def test_token_that_the_encoder_does_not_know_is_refused():
    with pytest.raises(ValueError, match="has the token id 24, expected ids below 10"):
        load_tokenizer(described(), vocab_size=10)


def test_panic_of_the_library_is_an_error_like_any_other(capfd):
    damaged = described(normalizer=charsmap(b"\0", trie=bytes(4)))
    text = TextTransform(tokenizer_json=damaged, vocab_size=len(VOCABULARY), max_tokens=8)
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read \(index out of bounds"):
        text.prepare("a b")


@pytest.mark.parametrize(
    ("ids", "message"),
    [([10**6], "adds the token id 1000000, expected ids below 25"), ([2] * 5, "expected at most 4 special")],
)
def test_special_tokens_that_no_encoder_has_are_refused(ids, message):
    special = {"[CLS]": {"id": "[CLS]", "ids": ids, "tokens": ["[CLS]"] * len(ids)}}
    sequence = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    second = {"Sequence": {"id": "B", "type_id": 1}}
    content = described(
        post_processor={"type": "TemplateProcessing", "single": sequence, "pair": [*sequence, second],
                        "special_tokens": special}
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        TextTransform(tokenizer_json=content, vocab_size=len(VOCABULARY), max_tokens=8).prepare("a")


def test_tokens_that_a_file_would_draw_by_chance_are_always_the_same():
    model = {"type": "BPE", "dropout": 1.0, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    tokenizer = load_tokenizer(described(model=model, added_tokens=[]), vocab_size=25)
    assert tokenizer.encode("ab", add_special_tokens=False).ids == [2]


PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0), ("a", -2.0), ("\u2581a", -1.5)]
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
WORDS = {"type": "BPE", "vocab": {"a": 0, "\u0120": 1, "\u0120a": 2}, "merges": ["\u0120 a"]}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# the parts of the tokenizer.json of published encoders, with a few pieces instead of their vocabularies
PUBLISHED = {
    "XLM-R, E5, BGE-M3": {
        "normalizer": charsmap(),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": PIECES},
    },
    "DeBERTa-v3": {
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": True, "strip_right": True}, charsmap(),
            {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "}, {"type": "NFC"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [METASPACE]},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": PIECES, "byte_fallback": False},
    },
    "ALBERT": {
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"String": "``"}, "content": '"'}, {"type": "NFKD"},
            {"type": "StripAccents"}, {"type": "Lowercase"}, charsmap(),
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": PIECES},
    },
    "RoBERTa": {
        "normalizer": None, "pre_tokenizer": BYTES,
        "post_processor": {"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2], "trim_offsets": True,
                           "add_prefix_space": False},
        "model": WORDS,
    },
    "ModernBERT": {"normalizer": {"type": "NFC"}, "pre_tokenizer": BYTES, "model": WORDS},
    "mmBERT": {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                          "invert": False},
        "model": {"type": "BPE", "vocab": {"a": 0, "\u2581": 1, "\u2581a": 2}, "merges": ["\u2581 a"],
                  "byte_fallback": True},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_tokenizers_of_published_encoders_are_read(name):
    published = TextTransform(tokenizer_json=described(**PUBLISHED[name]), vocab_size=25, max_tokens=8)
    [window] = published.prepare("a a")
    assert window[0] == 2
    assert window[-1] == 3
    assert len(window) > 2


def test_share_of_unknown_pieces_is_told_for_sentencepiece_too():
    pieces = TextTransform(tokenizer_json=described(**PUBLISHED["XLM-R, E5, BGE-M3"]), vocab_size=25, max_tokens=8)
    assert pieces.share_unknown("a a q") == pytest.approx(1 / 4, abs=0.1)
