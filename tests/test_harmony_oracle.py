"""Harmony: the same tokens and the same messages as the openai-harmony library."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from gptoss_native import harmony
from gptoss_native.harmony import Message, Parser
from gptoss_native.harmony.messages import CHANNELS, ROLES, kind_of
from harmony_random import TEXTS, random_message, wire
from vocabularies import ranks_file, released_tokenizer


@pytest.fixture(scope="module")
def oracle() -> Any:
    library = pytest.importorskip(
        "openai_harmony", reason="the reference implementation of Harmony is not installed"
    )
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(ranks_file().parent)
    return library.load_harmony_encoding(library.HarmonyEncodingName.HARMONY_GPT_OSS)


def test_random_conversations_render_as_the_oracle_renders_them(oracle: Any) -> None:
    choose = random.Random(5)
    tokenizer = released_tokenizer()
    for _ in range(1500):
        messages = [random_message(choose) for _ in range(choose.randrange(1, 8))]
        drop = choose.random() < 0.5
        theirs: dict[str, Any] = {"auto_drop_analysis": drop}
        ours: dict[str, Any] = {"drop_analysis": "first_final" if drop else "none", "compat": True}
        role = choose.choice(ROLES)
        assert harmony.render_conversation(messages, tokenizer, **ours) == oracle._inner.render_conversation(
            wire(messages), theirs
        )
        assert harmony.render_conversation_for_training(
            messages, tokenizer, **ours
        ) == oracle._inner.render_conversation_for_training(wire(messages), theirs)
        assert harmony.render_conversation_for_completion(
            messages, tokenizer, role, **ours
        ) == oracle._inner.render_conversation_for_completion(wire(messages), role, theirs)


def spells(message: Message) -> bool:
    """A header field has a control token's spelling, which only compat allows."""
    content_type = (message.content_type or "").removeprefix("<|constrain|>")
    return any("<|" in (field or "") for field in (message.name, message.channel, message.recipient, content_type))


def test_conversations_without_oddities_need_no_compat(oracle: Any) -> None:
    choose = random.Random(11)
    tokenizer = released_tokenizer()
    same = 0
    for _ in range(500):
        messages = [random_message(choose) for _ in range(choose.randrange(1, 5))]
        if any(m.role == "assistant" and m.recipient == "all" or spells(m) for m in messages):
            continue
        ours = harmony.render_conversation(messages, tokenizer, drop_analysis="none")
        theirs = oracle._inner.render_conversation(wire(messages), {"auto_drop_analysis": False})
        same += ours == theirs
        if ours != theirs:
            assert tokenizer.decode(ours).replace(" | null", "") == tokenizer.decode(theirs).replace(" | null", "")
    assert same > 150


def complete(message: Message) -> bool:
    """Nothing is absent that would be filled in, and there is nothing that a client cannot say."""
    fields = (message.name, message.channel, message.recipient, message.content_type)
    if "" in fields or message.channel == "x" or spells(message):
        return False
    if message.role in ("system", "developer"):
        return message.content_type is None and not isinstance(message.content, tuple)
    if message.role == "user":
        return message.content_type is None
    if message.role == "tool":
        return message.channel is not None and message.recipient is not None and message.content != ()
    return message.channel is not None


def test_conversations_in_the_librarys_own_json_are_read(oracle: Any) -> None:
    choose = random.Random(12)
    tokenizer = released_tokenizer()
    read = 0
    while read < 200:
        messages = [random_message(choose) for _ in range(choose.randrange(1, 5))]
        if not all(complete(message) for message in messages):
            continue
        read += 1
        entries = json.loads(wire(messages))["messages"]
        theirs = oracle._inner.render_conversation(wire(messages), {"auto_drop_analysis": False})
        ours = harmony.read_messages(entries)
        assert harmony.render_conversation(ours, tokenizer, drop_analysis="none", compat=True) == theirs


def test_chat_messages_render_as_the_oracle_renders_them(oracle: Any) -> None:
    library = pytest.importorskip("openai_harmony")

    choose = random.Random(6)
    for _ in range(300):
        chat: list[Any] = []
        theirs = [library.Message.from_role_and_content(library.Role.SYSTEM, library.SystemContent.new())]
        for _ in range(choose.randrange(1, 6)):
            role, text = choose.choice(["system", "developer", "user", "assistant"]), choose.choice(TEXTS)
            chat.append({"role": role, "content": text})
            if role in ("system", "developer"):
                content = library.DeveloperContent.new().with_instructions(text)
                theirs.append(library.Message.from_role_and_content(library.Role.DEVELOPER, content))
            else:
                message = library.Message.from_role_and_content(library.Role(role), text)
                theirs.append(message.with_channel("final") if role == "assistant" else message)
        conversation = library.Conversation.from_messages(theirs)
        expected = oracle.render_conversation_for_completion(conversation, library.Role.ASSISTANT)
        assert harmony.render(chat, released_tokenizer()) == expected


def test_well_formed_completions_are_read_as_the_oracle_reads_them(oracle: Any) -> None:
    library = pytest.importorskip("openai_harmony")

    choose = random.Random(8)
    tokenizer = released_tokenizer()
    for _ in range(1000):
        messages = []
        for _ in range(choose.randrange(1, 5)):
            text = choose.choice(TEXTS)
            if choose.random() < 0.3:
                messages.append(
                    Message(
                        "assistant",
                        text,
                        channel=choose.choice(["commentary", "analysis"]),
                        recipient="functions.f",
                        content_type=choose.choice([None, "json", "<|constrain|>json", "code"]),
                    )
                )
            else:
                messages.append(Message("assistant", text, channel=choose.choice([*CHANNELS, None])))
        ids = harmony.render_conversation(messages, tokenizer, drop_analysis="none")[2:]  # without <|start|>assistant
        parser = Parser(tokenizer)
        parser.feed(ids)
        parser.finish()
        theirs = oracle.parse_messages_from_completion_tokens(ids, library.Role.ASSISTANT)
        assert [(m.role, m.channel, m.recipient, m.content_type, m.text) for m in parser.messages] == [
            (
                m.author.role.value,
                m.channel,
                m.recipient,
                m.content_type,
                "".join(item.text for item in m.content),
            )
            for m in theirs
        ]
        assert not any(message.malformed for message in parser.messages)
        assert [kind_of(m.role, m.channel, m.recipient) for m in parser.messages] == [
            m.kind for m in messages
        ]
