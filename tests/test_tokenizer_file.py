"""tokenizer.json: what is read from it, what is refused, and that skipping its merges changes nothing."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptoss_native.errors import TokenizerError
from gptoss_native.tokenizer import Tokenizer
from gptoss_native.tokenizer_json import _without_merges, read_tokenizer_json
from vocabularies import SMALL_VOCAB_SIZE, released_json, small_document, small_tokenizer


def write(folder: Path, document: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


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


def split_of(document: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = document["pre_tokenizer"]["pretokenizers"][0]
    return step


def byte_level_of(document: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = document["pre_tokenizer"]["pretokenizers"][1]
    return step


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
    ("added_tokens an object", lambda d: d.update(added_tokens={}), 'list as "added_tokens"'),
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
    ("removed pieces", lambda d: split_of(d).update(behavior="Removed"), "isolated Split"),
    ("an inverted split", lambda d: split_of(d).update(invert=True), "isolated Split"),
    ("a text pattern", lambda d: split_of(d).update(pattern={"String": " "}), "Split"),
    ("an empty pattern", lambda d: split_of(d).update(pattern={"Regex": ""}), "Split"),
    ("a regex that is none", lambda d: split_of(d).update(pattern={"Regex": "(?<"}), "regex"),
    ("a prefix space", lambda d: byte_level_of(d).update(add_prefix_space=True), "prefix space"),
    ("a second regex", lambda d: byte_level_of(d).update(use_regex=True), "without a regex"),
]


@pytest.mark.parametrize(
    ("edit", "expected"), [case[1:] for case in UNUSABLE], ids=[case[0] for case in UNUSABLE]
)
def test_an_unusable_file_is_refused_by_name(tmp_path: Path, edit: Edit, expected: str) -> None:
    document = small_document()
    edit(document)
    path = write(tmp_path, document)
    with pytest.raises(TokenizerError) as error:
        Tokenizer.from_file(path, SMALL_VOCAB_SIZE)
    assert str(path) in str(error.value) and expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "1 to"),
        (b"{", "truncated"),
        (b"[]", "JSON object"),
        (b"\xff{}", "expected UTF-8"),
        (b"\0" * 4096, "JSON"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 1_000_000, "nested too deeply"),
        (b'{"a":' + b"9" * 9999, "JSON"),
        (b'{"model": {}, "model": {}}', "occurs twice"),
        (b"version https://git-lfs.github.com/spec/v1\n", "expected JSON"),
    ],
)
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
    split_of(document)["pattern"]["Regex"] = r"\p{L}+"
    tokenizer = Tokenizer.from_file(write(tmp_path, document), SMALL_VOCAB_SIZE)
    assert tokenizer.decode(tokenizer.encode("fox")) == "fox"
    with pytest.raises(TokenizerError, match="leaves parts of the text out"):
        tokenizer.encode("fox 1")


def test_a_pattern_that_gives_up_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    document = small_document()
    split_of(document)["pattern"]["Regex"] = r"\s+(?!\S)|\s+|\S+"
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
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_or_still_a_tokenizer(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps(small_document(), ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"[", b"}", b'"'])
        )
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
    for text in (
        json.dumps(document),
        json.dumps(document, indent=2, ensure_ascii=False),
        json.dumps(document) + "\n ",
    ):
        assert _without_merges(text.encode()) == emptied(document)


def test_the_word_merges_elsewhere_misleads_nobody() -> None:
    document = small_document()
    document["model"]["vocab"]["merges"] = 569
    document = {"version": 'x"merges": [1, 2', "merges": "no", **document}
    document["truncation"] = ["\\", '"merges": [', '\\"merges']
    assert _without_merges(json.dumps(document).encode()) == emptied(document)


def test_skipping_the_merges_of_the_released_file_equals_reading_them() -> None:
    skipped = _without_merges(released_json())
    assert skipped is not None and skipped == emptied(json.loads(released_json()))


MOVED: list[tuple[str, Edit]] = [
    ("merges before the vocabulary", lambda d: d["model"].update(vocab=d["model"].pop("vocab"))),
    ("the normalizer last", lambda d: d.update(normalizer=d.pop("normalizer"))),
    (
        "a normalizer and a list last",
        lambda d: d.update(normalizer=d.pop("normalizer") or {"type": "NFC", "x": [1]}),
    ),
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
