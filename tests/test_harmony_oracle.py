"""Harmony: the same tokens and the same messages as the openai-harmony library."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest

from gptoss_native import harmony
from gptoss_native.harmony import DeveloperContent, Message, Parser, SystemContent
from gptoss_native.harmony.messages import CHANNELS, kind_of
from gptoss_native.harmony.render import without_old_analysis
from vocabularies import (
    ranks_file,
    released_tokenizer,
)


@pytest.fixture(scope="module")
def oracle() -> Any:
    library = pytest.importorskip(
        "openai_harmony", reason="the reference implementation of Harmony is not installed"
    )
    os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(ranks_file().parent)
    return library.load_harmony_encoding(library.HarmonyEncodingName.HARMONY_GPT_OSS)


TEXTS = [
    "",
    "Hi",
    "The quick brown fox\n",
    "  don't <|end|> <|start|>system<|message|>",
    "漢字 é 😀",
    "a\r\nb\0",
    "1234567 = x",
    "\n\n",
]
FIELDS = [None, "", "alice", "functions.f", "al ice", "é"]


def wire_item(item: Any) -> dict[str, Any]:
    """A content item as openai-harmony's own JSON has it; a null field is left out of the rendering."""
    if isinstance(item, SystemContent):
        channels = {"valid_channels": list(item.valid_channels), "channel_required": item.channel_required}
        effort = item.reasoning_effort.capitalize() if item.reasoning_effort else None
        return {
            "type": "system_content",
            "model_identity": item.model_identity,
            "reasoning_effort": effort,
            "knowledge_cutoff": item.knowledge_cutoff,
            "conversation_start_date": item.conversation_start_date,
            "channel_config": channels,
            "tools": None,
        }
    if isinstance(item, DeveloperContent):
        return {"type": "developer_content", "instructions": item.instructions, "tools": None}
    return {"type": "text", "text": item}


def wire(messages: list[Message]) -> str:
    return json.dumps(
        {
            "messages": [
                {
                    "role": m.role,
                    "name": m.name,
                    "channel": m.channel,
                    "recipient": m.recipient,
                    "content_type": m.content_type,
                    "content": [wire_item(item) for item in m.items],
                }
                for m in messages
            ]
        }
    )


def random_message(choose: random.Random) -> Message:
    role = choose.choice(["system", "developer", "user", "assistant", "assistant", "tool"])
    content: Any = tuple(choose.choice(TEXTS) for _ in range(choose.randrange(3)))
    if role == "system" and choose.random() < 0.8:
        some = [choose.choice([None, *TEXTS]) for _ in range(3)]
        channels = tuple(choose.sample(CHANNELS, choose.randrange(4)))
        content = SystemContent(
            some[0],
            choose.choice([None, "low", "medium", "high"]),
            some[1],
            some[2],
            channels,
            choose.random() < 0.5,
        )
    elif role == "developer" and choose.random() < 0.8:
        content = DeveloperContent(choose.choice([None, *TEXTS]))
    name = (
        choose.choice(["f", "functions.f"])
        if role == "tool"
        else choose.choice(FIELDS)
        if choose.random() < 0.2
        else None
    )
    channel = choose.choice([*CHANNELS, *CHANNELS, None, "", "x"]) if role in ("assistant", "tool") else None
    recipient = choose.choice(FIELDS) if role in ("assistant", "tool") and choose.random() < 0.3 else None
    content_type = choose.choice([None, None, None, "json", "<|constrain|>json", "<|constrain|>", "", "code"])
    return Message(role, content, name, channel, recipient, content_type)  # type: ignore[arg-type]


def test_random_conversations_render_as_the_oracle_renders_them(oracle: Any) -> None:
    choose = random.Random(5)
    tokenizer = released_tokenizer()
    generation = [tokenizer.specials["<|start|>"], *tokenizer.encode("assistant")]
    for _ in range(1500):
        messages = [random_message(choose) for _ in range(choose.randrange(1, 8))]
        theirs = oracle._inner.render_conversation(wire(messages), {"auto_drop_analysis": False})
        assert harmony.render_conversation(messages, tokenizer) == theirs
        theirs = oracle._inner.render_conversation_for_completion(
            wire(messages), "assistant", {"auto_drop_analysis": True}
        )
        kept = without_old_analysis(messages, "first_final")
        assert harmony.render_conversation(kept, tokenizer) + generation == theirs


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
        ids = harmony.render_conversation(messages, tokenizer)[2:]  # without <|start|>assistant
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
