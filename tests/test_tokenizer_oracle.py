"""The tokenizer with gpt-oss's own vocabulary, and against tiktoken and Hugging Face's tokenizers."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from gptoss_native.errors import TokenizerError
from gptoss_native.tokenizer import O200K_PATTERN
from gptoss_native.tokenizer_json import read_tokenizer_json
from make_tokenizer import PATTERN, RELEASED_VOCAB_SIZE, read_ranks
from vocabularies import (
    ranks_file,
    released_json,
    released_tokenizer,
    small_document,
    small_tokenizer,
)

KNOWN = [
    ("hello world", [24912, 2375]),
    ("assistant", [173781]),
    ("user", [1428]),
    ("system", [17360]),
    ("developer", [77944]),
    ("analysis", [35644]),
    ("final", [17196]),
    ("commentary", [12606, 815]),
    ("json", [4108]),
    (" ", [220]),
    (" to=", [316, 28]),
    ("functions", [44580]),
    (" I'\u017f", [3413, 70067]),
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


def test_ids_without_a_name_in_the_released_file_decode() -> None:
    tokenizer = released_tokenizer()
    assert (
        tokenizer.decode([200018, 200019, 201087]) == "<|endofprompt|><|reserved_200019|><|reserved_201087|>"
    )
    with pytest.raises(TokenizerError):
        tokenizer.decode([201088])


def test_every_released_token_decodes_to_its_bytes() -> None:
    tokenizer = released_tokenizer()
    assert all(tokenizer.token_bytes(rank) == token for token, rank in read_ranks(ranks_file()).items())


SCRAPS = ["<|end|>"] + (
    "don't|I'LL|'ſ| \r\n|\n\n |  |漢字|👨‍👩‍👧|é|e\u0301|1234567|ǅ|ʰ|\0|\u200b|\u3000|//\n|ﬁ|ß|ĲSSELMEER|_a|"
    "\U0001d54f|\u1c89|\ua7ce|नमस्ते|สวัสดี|\x85"
).split("|")


def random_texts(count: int) -> list[str]:
    choose = random.Random(7)
    code_points = [
        (0, 0x80),
        (0x80, 0x800),
        (0x800, 0xD800),
        (0xE000, 0x10000),
        (0x10000, 0x20000),
        (0xE0000, 0x110000),
    ]

    def scrap() -> str:
        return (
            choose.choice(SCRAPS)
            if choose.random() < 0.6
            else chr(choose.randrange(*choose.choice(code_points)))
        )

    return ["".join(scrap() for _ in range(choose.randrange(30))) for _ in range(count)]


def test_tiktoken_with_the_official_ranks_agrees() -> None:
    import tiktoken

    theirs = tiktoken.Encoding(
        "o200k", pat_str=PATTERN, mergeable_ranks=read_ranks(ranks_file()), special_tokens={}
    )
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
