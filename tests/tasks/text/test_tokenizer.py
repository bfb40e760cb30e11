"""Tokenizers from strangers, and the windows of token ids that a text becomes."""

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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "has no model"),
        (described(model={"type": "Secret"}), "the model 'Secret'"),
        (described(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}}), "the pre_tokenizer 'Split'"),
        (
            described(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}),
            "regular expression",
        ),
        (described(added_tokens=[{}] * 10_001), "more than 10000 added tokens"),
        (described(normalizer={"type": "Sequence", "normalizers": [{"type": "Lua"}]}), "the normalizer 'Lua'"),
        (described(model={"type": "WordPiece"}), "cannot be read"),
    ],
)
def test_strangers_tokenizer_is_refused_by_name(content, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        load_tokenizer(content, vocab_size=len(VOCABULARY))


def test_token_that_the_encoder_does_not_know_is_refused():
    with pytest.raises(ValueError, match="has the token id 24, expected ids below 10"):
        load_tokenizer(described(), vocab_size=10)
