"""The tokenizer: what it encodes and decodes, which files it refuses, and that it agrees with the others."""

from __future__ import annotations

import copy
import json
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import gptoss_native.tokenizer as tokenizer_module
from gptoss_native.errors import TokenizerError
from gptoss_native.tokenizer import O200K_PATTERN, TextStream, Tokenizer
from gptoss_native.tokenizer_json import _without_merges, read_tokenizer_json
from make_tokenizer import PATTERN, RELEASED_VOCAB_SIZE, read_ranks
from vocabularies import (
    SMALL_FIRST_SPECIAL,
    SMALL_VOCAB_SIZE,
    ranks_file,
    released_json,
    released_tokenizer,
    small_document,
    small_tokenizer,
)

BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_BLANK = "\x1c\x1f\u180e\u200b\ufeff"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text(st.sampled_from(BLANKS + NOT_BLANK + "aA1'!é/漢😀"))
DEGENERATE = ["a", "A", "1", " ", "\n", "\0", "!", "/", "'", "é", "漢", "😀", "\u0301", "\u3000", "\u200b", " \n"]


def write(folder: Path, document: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


# Encoding and decoding


@given(ANY_TEXT)
@example("<|end|><|start|>system<|message|>")
@example(" I'\u017f don'T \r\n\r\n  x  \u1c89\ua7cb\ua7ce")
def test_decode_gives_back_every_text_that_was_encoded(text: str) -> None:
    tokenizer = small_tokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(index < SMALL_FIRST_SPECIAL for index in ids)


@given(st.lists(st.integers(0, SMALL_VOCAB_SIZE - 1)))
def test_a_stream_gives_the_text_of_the_whole(ids: list[int]) -> None:
    tokenizer = small_tokenizer()
    stream = TextStream(tokenizer)
    pieces = [stream.feed(index) for index in ids] + [stream.finish()]
    assert "".join(pieces) == tokenizer.decode(ids)


@given(st.binary())
@example(b"\xf0\x9f\x98")
@example(b"\xed\xa0\x80\xf0\x9fA\xc3")
def test_a_stream_of_any_bytes_gives_the_text_of_the_whole(data: bytes) -> None:
    stream = TextStream(small_tokenizer())
    assert "".join([stream.feed(byte) for byte in data] + [stream.finish()]) == data.decode("utf-8", "replace")


def test_a_stream_waits_for_whole_characters_and_can_be_used_again() -> None:
    stream = TextStream(small_tokenizer())
    assert [stream.feed(byte) for byte in "é😀".encode()] == ["", "é", "", "", "", "😀"]
    assert [stream.feed(0xF0), stream.finish(), stream.feed(0x41), stream.finish()] == ["", "\ufffd", "A", ""]


def test_special_spellings_in_text_are_plain_text() -> None:
    tokenizer = small_tokenizer()
    for spelling in [*tokenizer.specials, "<|reserved_599|>"]:
        ids = tokenizer.encode(f"a{spelling}b")
        assert all(index < SMALL_FIRST_SPECIAL for index in ids)
        assert tokenizer.decode(ids) == f"a{spelling}b"


def test_a_surrogate_pair_is_its_character_and_a_lone_surrogate_is_replaced() -> None:
    tokenizer = small_tokenizer()
    assert tokenizer.encode("a\ud83d\ude00b") == tokenizer.encode("a😀b")
    assert tokenizer.decode(tokenizer.encode("a\ud83db\udcffc")) == "a\ufffdb\ufffdc"


@pytest.mark.parametrize("text", [b"bytes", None, 3])
def test_what_is_not_text_is_refused(text: Any) -> None:
    with pytest.raises(TypeError, match="expects a str"):
        small_tokenizer().encode(text)


@pytest.mark.slow
@pytest.mark.parametrize("unit", DEGENERATE)
def test_a_megabyte_of_the_same_character_goes_round(unit: str) -> None:
    tokenizer = small_tokenizer()
    run = unit * (1_000_000 // len(unit.encode()) + 1)
    for text in (run, f"x{run}1"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text(st.sampled_from(BLANKS + "   aA1!/'漢"), max_size=60))
@example("!\n\n   \n    ")
@example("a    1")
@settings(max_examples=500)
def test_long_blank_runs_are_cut_where_the_pattern_cuts(text: str) -> None:
    tokenizer = small_tokenizer()
    whole = tokenizer.encode(text)
    with pytest.MonkeyPatch.context() as patch:  # as if four blanks were too many for the regex engine
        patch.setattr(tokenizer_module, "LONG_BLANK", 0)
        patch.setattr(tokenizer_module, "_LONG_BLANKS", re.compile(tokenizer_module._BLANK + "{4,}"))
        assert tokenizer.encode(text) == whole


def test_the_longest_blank_runs_of_all_kinds_go_round() -> None:
    tokenizer = small_tokenizer()
    for text in (" " * 1_100_000, "a\n" + "\t" * 1_100_000 + "1" + " " * 1_100_000 + "\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_id_of_the_model_decodes_and_no_other() -> None:
    tokenizer = small_tokenizer()
    assert tokenizer.decode(range(SMALL_FIRST_SPECIAL, SMALL_FIRST_SPECIAL + 3)) == (
        "<|startoftext|><|endoftext|><|reserved_572|>")
    assert tokenizer.decode([569, 591, 599]) == "<|reserved_569|><|reserved_591|><|reserved_599|>"
    for index in (-1, SMALL_VOCAB_SIZE, 1 << 40):
        with pytest.raises(TokenizerError, match=f"{index} is outside the vocabulary, expected 0 to 599"):
            tokenizer.decode([1, index])
        with pytest.raises(TokenizerError):
            TextStream(tokenizer).feed(index)


def test_specials_are_found_by_spelling_and_a_missing_one_is_named() -> None:
    tokenizer = small_tokenizer()
    assert tokenizer.special("<|start|>") == tokenizer.specials["<|start|>"] == SMALL_FIRST_SPECIAL + 8
    with pytest.raises(TokenizerError, match=r"special token <\|refusal\|>"):
        tokenizer.special("<|refusal|>")


def test_the_tokenizer_says_what_it_is() -> None:
    assert re.fullmatch(r"Tokenizer\('.*tokenizer.json': \d+ ordinary and 21 special tokens, vocab_size=600\)",
                        repr(small_tokenizer()))


def test_threads_may_share_a_tokenizer() -> None:
    tokenizer = small_tokenizer()
    texts = [f"The quick brown fox number {i} " * 50 for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == [tokenizer.encode(text) for text in texts]


def test_loading_needs_no_network_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    path = write(tmp_path, small_document())
    assert Tokenizer.from_file(path, SMALL_VOCAB_SIZE).encode("a")
    assert list(tmp_path.iterdir()) == [path]


def test_importing_the_modules_does_not_import_tiktoken() -> None:
    code = "import sys, gptoss_native.tokenizer, gptoss_native.harmony; print('tiktoken' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# Files


def test_added_tokens_repeated_in_the_vocabulary_are_not_ordinary(tmp_path: Path) -> None:
    document = small_document()
    document["model"]["vocab"].update({entry["content"]: entry["id"] for entry in document["added_tokens"]})
    tokenizer = Tokenizer.from_file(write(tmp_path, document), SMALL_VOCAB_SIZE)
    assert tokenizer.encode("<|end|>") == small_tokenizer().encode("<|end|>")


def test_specials_may_come_first(tmp_path: Path) -> None:
    document = small_document()
    document["model"]["vocab"] = {token: i + 21 for token, i in document["model"]["vocab"].items()}
    for index, entry in enumerate(document["added_tokens"]):
        entry["id"] = index
    tokenizer = Tokenizer.from_file(write(tmp_path, document), SMALL_VOCAB_SIZE)
    assert tokenizer.encode("The fox") == [i + 21 for i in small_tokenizer().encode("The fox")]
    assert tokenizer.decode([8, *tokenizer.encode("é")]) == "<|start|>é"


Edit = Callable[[dict[str, Any]], object]
UNUSABLE: list[tuple[str, Edit, str]] = [
    ("no model", lambda d: d.pop("model"), '"model" to be a JSON object'),
    ("model a list", lambda d: d.update(model=[]), '"model" to be a JSON object'),
    ("WordPiece", lambda d: d["model"].update(type="WordPiece"), '"type" "BPE", found \'WordPiece\''),
    ("no type", lambda d: d["model"].pop("type"), '"type" "BPE", found None'),
    ("byte_fallback", lambda d: d["model"].update(byte_fallback=True), "byte_fallback"),
    ("a prefix", lambda d: d["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix"),
    ("a normalizer", lambda d: d.update(normalizer={"type": "NFC"}), "normalizer"),
    ("no vocab", lambda d: d["model"].pop("vocab"), '"vocab" to be a JSON object'),
    ("empty vocab", lambda d: d["model"].update(vocab={}), "256 single bytes"),
    ("an id as text", lambda d: d["model"]["vocab"].update(The="300"), "integer ids"),
    ("an id as float", lambda d: d["model"]["vocab"].update(The=300.0), "integer ids"),
    ("an id as bool", lambda d: d["model"]["vocab"].update(The=True), "integer ids"),
    ("a negative id", lambda d: d["model"]["vocab"].update(new=-1), "ids from -1"),
    ("an id beyond the model", lambda d: d["model"]["vocab"].update(new=600), "expected 0 to 599"),
    ("an enormous id", lambda d: d["model"]["vocab"].update(new=1 << 70), "expected 0 to 599"),
    ("an id twice", lambda d: d["model"]["vocab"].update(new=7), "same id"),
    ("an id of a special", lambda d: d["model"]["vocab"].update(new=580), "same id"),
    ("a hole", lambda d: d["model"]["vocab"].pop("th"), "no token with id"),
    ("a missing byte", lambda d: d["model"]["vocab"].pop("Ġ"), "256 single bytes"),
    ("an empty token", lambda d: d["model"]["vocab"].update({"": 569}), "no empty token"),
    ("a bare blank", lambda d: d["model"]["vocab"].update({"a b": 569}), "byte-to-unicode"),
    ("a character of no byte", lambda d: d["model"]["vocab"].update({"漢": 569}), "byte-to-unicode"),
    ("an emoji", lambda d: d["model"]["vocab"].update({"😀": 569}), "byte-to-unicode"),
    ("a lone surrogate", lambda d: d["model"]["vocab"].update({"\ud800": 569}), "byte-to-unicode"),
    ("added_tokens an object", lambda d: d.update(added_tokens={}), "list as \"added_tokens\""),
    ("an added token as text", lambda d: d["added_tokens"].append("<|x|>"), "JSON object"),
    ("an added token without id", lambda d: d["added_tokens"][3].pop("id"), "has id None"),
    ("an added id as text", lambda d: d["added_tokens"][3].update(id="3"), "has id '3'"),
    ("an added id beyond the model", lambda d: d["added_tokens"][3].update(id=600), "expected 0 to 599"),
    ("an added token without text", lambda d: d["added_tokens"][3].pop("content"), "printable text"),
    ("an empty added token", lambda d: d["added_tokens"][3].update(content=""), "printable text"),
    ("an added lone surrogate", lambda d: d["added_tokens"][3].update(content="\ud800"), "printable text"),
    ("an added id twice", lambda d: d["added_tokens"][3].update(id=570), "same id"),
    ("an added token twice", lambda d: d["added_tokens"][3].update(content="<|end|>"), "appears twice"),
    ("an added token elsewhere", lambda d: d["model"]["vocab"].update({"<|end|>": 3}), "another id"),
    ("no pre_tokenizer", lambda d: d.pop("pre_tokenizer"), '"pre_tokenizer"'),
    ("another pre_tokenizer", lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), '"pre_tokenizer"'),
    ("one step", lambda d: d["pre_tokenizer"]["pretokenizers"].pop(), '"pre_tokenizer"'),
    ("steps of text", lambda d: d["pre_tokenizer"].update(pretokenizers=["a", "b"]), '"pre_tokenizer"'),
    ("removed pieces", lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(behavior="Removed"), "isolated Split"),
    ("an inverted split", lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(invert=True), "isolated Split"),
    ("a text pattern", lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(pattern={"String": " "}), "Split"),
    ("an empty pattern", lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": ""}), "Split"),
    ("a regex that is none", lambda d: d["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": "(?<"}), "regex"),
    ("a prefix space", lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True), "prefix space"),
    ("a second regex", lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(use_regex=True), "without a regex"),
]


@pytest.mark.parametrize(("edit", "expected"), [case[1:] for case in UNUSABLE], ids=[case[0] for case in UNUSABLE])
def test_an_unusable_file_is_refused_by_name(tmp_path: Path, edit: Edit, expected: str) -> None:
    document = small_document()
    edit(document)
    path = write(tmp_path, document)
    with pytest.raises(TokenizerError) as error:
        Tokenizer.from_file(path, SMALL_VOCAB_SIZE)
    assert str(path) in str(error.value) and expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("data", "expected"), [
    (b"", "1 to"), (b"{", "truncated"), (b"[]", "JSON object"), (b"\xff{}", "expected UTF-8"), (b"\0" * 4096, "JSON"),
    (b"[" * 1_000_000, "nested too deeply"), (b'{"a":' * 1_000_000, "nested too deeply"), (b'{"a":' + b"9" * 9999, "JSON"),
    (b'{"model": {}, "model": {}}', "occurs twice"), (b"version https://git-lfs.github.com/spec/v1\n", "expected JSON"),
])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match=re.escape(str(path))) as error:
        Tokenizer.from_file(path, SMALL_VOCAB_SIZE)
    assert expected in str(error.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="not a regular file"):
        Tokenizer.from_file(tmp_path, SMALL_VOCAB_SIZE)
    with pytest.raises(TokenizerError, match="No such file"):
        Tokenizer.from_file(tmp_path / "absent.json", SMALL_VOCAB_SIZE)


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="expected 0 to 199, below the vocab_size"):
        Tokenizer.from_file(write(tmp_path, small_document()), 200)


def test_a_pattern_that_skips_text_is_found_out(tmp_path: Path) -> None:
    document = small_document()
    document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{L}+"
    tokenizer = Tokenizer.from_file(write(tmp_path, document), SMALL_VOCAB_SIZE)
    assert tokenizer.decode(tokenizer.encode("fox")) == "fox"
    with pytest.raises(TokenizerError, match="leaves parts of the text out"):
        tokenizer.encode("fox 1")


def test_a_pattern_that_gives_up_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    document = small_document()
    document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+(?!\S)|\s+|\S+"
    tokenizer = Tokenizer.from_file(write(tmp_path, document), SMALL_VOCAB_SIZE)
    with pytest.raises(TokenizerError, match="fails on this text"):
        tokenizer.encode(" " * 1_200_000)
    assert tokenizer.decode(tokenizer.encode("still works")) == "still works"


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = json.dumps(small_document()).encode()
    path = tmp_path / "tokenizer.json"
    for size in [*range(0, len(data), len(data) // 60), *range(len(data) - 20, len(data))]:
        path.write_bytes(data[:size])
        with pytest.raises(TokenizerError, match=re.escape(str(path))):
            Tokenizer.from_file(path, SMALL_VOCAB_SIZE)


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_still_a_tokenizer(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps(small_document(), ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4) | st.sampled_from([b"[", b"}", b'"']))
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    try:
        tokenizer = Tokenizer.from_file(path, SMALL_VOCAB_SIZE)
        assert tokenizer.decode(tokenizer.encode("The fox é")) == "The fox é"
    except TokenizerError as error:
        assert str(path) in str(error)


# Skipping the merges


def emptied(document: dict[str, Any]) -> dict[str, Any]:
    document = copy.deepcopy(document)
    document["model"]["merges"] = []
    return document


def test_merges_are_skipped_in_the_released_form() -> None:
    document = small_document()
    for text in (json.dumps(document), json.dumps(document, indent=2, ensure_ascii=False), json.dumps(document) + "\n "):
        assert _without_merges(text.encode()) == emptied(document)


def test_the_word_merges_elsewhere_misleads_nobody() -> None:
    document = small_document()
    document["model"]["vocab"]["merges"] = 569
    document = {"version": 'x"merges": [1, 2', "merges": "no", **document}
    document["truncation"] = ["\\", '"merges": [', "\\\"merges"]
    assert _without_merges(json.dumps(document).encode()) == emptied(document)


MOVED: list[tuple[str, Edit]] = [
    ("merges before the vocabulary", lambda d: d["model"].update(vocab=d["model"].pop("vocab"))),
    ("the normalizer last", lambda d: d.update(normalizer=d.pop("normalizer"))),
    ("a normalizer and a list last", lambda d: d.update(normalizer=d.pop("normalizer") or {"type": "NFC", "x": [1]})),
    ("added tokens last", lambda d: d.update(added_tokens=d.pop("added_tokens"))),
    ("the pre-tokenizer last", lambda d: d.update(pre_tokenizer=d.pop("pre_tokenizer"))),
    ("unk_token last", lambda d: d["model"].update(unk_token=d["model"].pop("unk_token"), x=[])),
    ("merges at the top", lambda d: d.update(merges=d["model"].pop("merges"))),
    ("merges in both places", lambda d: d.update(merges=[[], {"vocab": []}])),
    ("no merges", lambda d: d["model"].pop("merges")),
    ("merges an object", lambda d: d["model"].update(merges={"a": []})),
]


@pytest.mark.parametrize("edit", [case[1] for case in MOVED], ids=[case[0] for case in MOVED])
def test_skipping_merges_never_changes_what_the_file_says(edit: Edit) -> None:
    document = small_document()
    edit(document)
    skipped = _without_merges(json.dumps(document).encode())
    assert skipped is None or skipped == emptied(document)


def test_any_order_of_members_reads_the_same(tmp_path: Path) -> None:
    shuffle = random.Random(1).shuffle
    expected = read_tokenizer_json(write(tmp_path, small_document()), SMALL_VOCAB_SIZE)
    for _ in range(30):
        document = small_document()
        for _ in range(2):
            members = list(document.items())
            shuffle(members)
            document = dict(members)
            members = list(document["model"].items())
            shuffle(members)
            document["model"] = dict(members)
        assert read_tokenizer_json(write(tmp_path, document), SMALL_VOCAB_SIZE) == expected


# The real vocabulary, and the other tokenizers

KNOWN = [
    ("hello world", [24912, 2375]), ("assistant", [173781]), ("user", [1428]), ("system", [17360]), ("developer", [77944]),
    ("analysis", [35644]), ("final", [17196]), ("commentary", [12606, 815]), ("json", [4108]), (" ", [220]),
    (" to=", [316, 28]), ("functions", [44580]), (" I'\u017f", [3413, 70067]),
]


def test_known_texts_have_their_known_ids() -> None:
    tokenizer = released_tokenizer()
    for text, ids in KNOWN:
        assert tokenizer.encode(text) == ids
    assert tokenizer.token_bytes(9552) == b" \xf0\x9f"


def test_the_released_file_gives_the_official_ranks(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(released_json())
    file = read_tokenizer_json(path, RELEASED_VOCAB_SIZE)
    assert file.ranks == read_ranks(ranks_file())
    assert file.pattern == PATTERN == O200K_PATTERN
    assert file.specials["<|start|>"] == 200006 and len(file.specials) == 21


def test_skipping_the_merges_of_the_released_file_equals_reading_them() -> None:
    skipped = _without_merges(released_json())
    assert skipped is not None and skipped == emptied(json.loads(released_json()))


def test_ids_without_a_name_in_the_released_file_decode() -> None:
    tokenizer = released_tokenizer()
    assert tokenizer.decode([200018, 200019, 201087]) == "<|endofprompt|><|reserved_200019|><|reserved_201087|>"
    with pytest.raises(TokenizerError):
        tokenizer.decode([201088])


def test_every_released_token_decodes_to_its_bytes() -> None:
    tokenizer = released_tokenizer()
    assert all(tokenizer.token_bytes(rank) == token for token, rank in read_ranks(ranks_file()).items())


SCRAPS = ["don't", "I'LL", "'ſ", " \r\n", "\n\n ", "  ", "漢字", "👨‍👩‍👧", "é", "e\u0301", "1234567", "ǅ", "ʰ", "\0", "\u200b",
          "\u3000", "//\n", "<|end|>", "ﬁ", "ß", "ĲSSELMEER", "_a", "\U0001d54f", "\u1c89", "\ua7ce", "नमस्ते", "สวัสดี", "\x85"]


def random_texts(count: int) -> list[str]:
    choose = random.Random(7)
    code_points = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000), (0xE0000, 0x110000)]

    def scrap() -> str:
        return choose.choice(SCRAPS) if choose.random() < 0.6 else chr(choose.randrange(*choose.choice(code_points)))

    return ["".join(scrap() for _ in range(choose.randrange(30))) for _ in range(count)]


def test_tiktoken_with_the_official_ranks_agrees() -> None:
    import tiktoken

    theirs = tiktoken.Encoding("o200k", pat_str=PATTERN, mergeable_ranks=read_ranks(ranks_file()), special_tokens={})
    for text in random_texts(3000):
        assert released_tokenizer().encode(text) == theirs.encode_ordinary(text)


@pytest.mark.parametrize("released", [False, True], ids=["small vocabulary", "released vocabulary"])
def test_hugging_face_tokenizers_agrees(released: bool) -> None:
    library = pytest.importorskip("tokenizers", reason="the second opinion on tokenization is not installed")
    data = released_json() if released else json.dumps(small_document()).encode()
    document = json.loads(data)
    del document["added_tokens"]  # this library would find them in plain text
    theirs = library.Tokenizer.from_str(json.dumps(document))
    ours = released_tokenizer() if released else small_tokenizer()
    for text in random_texts(1500):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
