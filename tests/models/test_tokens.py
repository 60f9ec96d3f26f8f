"""A text never has more tokens than is counted, with or without a tokenizer at hand."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.onnx.embedder import OnnxEmbedder
from models.tokens import ByteBound
from streams.split import SplitRules, split_text

AWKWARD = st.text(max_size=60) | st.lists(
    st.sampled_from(
        ["ﷺ", "ß", "İ", "ﬁ", "㍿", "½", "🇨🇭", "e\u0301", "\u0390", "x" * 30, " ", "\n", "9", "日本", "ΐ", "\x00"]
    ),
    max_size=40,
).map("".join)


@cache
def unknowing() -> list[Tokenizer]:
    """Of the kinds that models have, each knowing nothing, so that a text has as many tokens as it may have."""
    bytes_only = Tokenizer(models.BPE(vocab={chr(n): n for n in range(0x200)} | {"<s>": 600}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    pieces = [("<unk>", 0.0), ("▁", -1.0), *((f"<0x{n:02X}>", -2.0) for n in range(256))]
    fallback = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    fallback.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    fallback.pre_tokenizer = pre_tokenizers.Metaspace()
    for tokenizer in (bytes_only, fallback):
        ends = [("<s>", 600), ("<s>", 600)] if tokenizer is bytes_only else [("<unk>", 0), ("<unk>", 0)]
        tokenizer.post_processor = processors.BertProcessing(*ends)
    return [bytes_only, fallback]


@settings(max_examples=300)
@given(AWKWARD)
def test_bytes_are_never_fewer_than_tokens(embedder: OnnxEmbedder, text: str) -> None:
    (bound,) = ByteBound().encode([text])
    assert len(embedder.tokens.encode([text])[0]) <= len(bound)
    for tokenizer in unknowing():
        assert len(tokenizer.encode(text).ids) <= len(bound)


def test_a_prefix_counts_and_may_be_another_one() -> None:
    bound = ByteBound(prefix="passage: ")
    assert [len(one) for one in bound.encode(["ab", ""])] == [19, 17]
    assert [len(one) for one in bound.encode(["ab"], prefix="q: ")] == [13]


@pytest.mark.parametrize("max_tokens", [64, 512])
def test_texts_are_split_by_it_and_nothing_is_lost(max_tokens: int) -> None:
    text = "Ein Wehr staut das Wasser, ein Druckrohr führt es zur Turbine. 日本語の文章も。 " * 30
    rules = SplitRules(max_chars=1000, overlap_chars=0, max_tokens=max_tokens)
    chunks = split_text(text, rules, ByteBound().encode)
    covered = [False] * len(text)
    for chunk in chunks:
        assert chunk.start is not None
        assert chunk.end is not None
        assert len(chunk.ids) <= max_tokens
        covered[chunk.start : chunk.end] = [True] * len(chunk.text)
    assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))
