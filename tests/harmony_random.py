"""Random conversations, and the same as the openai-harmony library's own JSON."""

from __future__ import annotations

import json
import random
from typing import Any

from gptoss_native.harmony import (
    DeveloperContent,
    Message,
    SystemContent,
    Tool,
    ToolNamespace,
    browser,
    python,
)
from gptoss_native.harmony.messages import CHANNELS

TEXTS = [
    "",
    "Hi",
    "The quick brown fox\n",
    "  don't <|end|> <|start|>system<|message|>",
    "漢字 é 😀",
    "a\r\nb\0",
    "1234567 = x",
    "\n\n",
    "first\n\nsecond\r\n\r",
    'null "quoted" \\ \x1f\x7f',
]
FIELDS = [None, "", "alice", "functions.f", "al ice", "é", "a<|end|>"]
KEYS = ["a", "b c", "", "é", "type", 'q"', "null"]
NUMBERS = [0, -1, 1.0, 1e16, 1.5e-7, 1e-5, 123456.75, 2**63, 2**64, -(2**63) - 1, 1e15, 0.1, -0.0, 1e300, 10**25]


def random_json(choose: random.Random, depth: int = 0) -> Any:
    kind = choose.randrange(8 if depth < 2 else 6)
    if kind < 2:
        return choose.choice(TEXTS)
    if kind == 2:
        return choose.choice([None, True, False])
    if kind < 6:
        return choose.choice([*NUMBERS, float(f"{choose.randrange(-99999, 99999)}e{choose.randint(-20, 15)}")])
    if kind == 6:
        return [random_json(choose, depth + 1) for _ in range(choose.randrange(3))]
    return {choose.choice(KEYS): random_json(choose, depth + 1) for _ in range(choose.randrange(3))}


def random_schema(choose: random.Random, depth: int = 0) -> Any:
    if choose.random() < 0.04:
        return random_json(choose)
    kinds = ["string", "number", "integer", "boolean", "null", "odd", None, 3, ["string", "null"], ["integer", 3], [], [3]]
    if depth < 3:
        kinds += ["object", "array"] * 5
    kind = "object" if depth == 0 and choose.random() < 0.8 else choose.choice(kinds)
    schema: dict[str, Any] = {} if kind is None else {"type": kind}

    def maybe(probability: float, key: str, value: Any) -> None:
        if choose.random() < probability:
            schema[key] = value

    if kind == "object":
        names = choose.sample(KEYS, choose.randrange(4))
        maybe(0.9, "properties", {name: random_schema(choose, depth + 1) for name in names})
        maybe(0.6, "required", [*choose.sample(KEYS, 2), choose.choice([3, "zzz"])])
        maybe(0.05, "properties", random_json(choose))
    if kind == "array":
        maybe(0.8, "items", random_schema(choose, depth + 1))
    maybe(0.3, "description", choose.choice([*TEXTS, "same", "same", 3, None]))
    maybe(0.15, "title", choose.choice([*TEXTS, 3]))
    maybe(0.25, "default", random_json(choose))
    maybe(0.2 if kind == "string" else 0.03, "enum", choose.choice([["x", "y"], ["null"], [], [3], ["a", None, 'b"'], 3]))
    maybe(0.15, "examples", choose.choice([["x", 'y"'], [3], [], "x"]))
    maybe(0.2, "nullable", choose.choice([True, True, False, 3]))
    maybe(0.03, "anyOf", [{"type": "string"}])
    if depth < 3:
        maybe(0.12, "oneOf", [random_schema(choose, depth + 1) for _ in range(choose.randrange(4))])
        maybe(0.01, "oneOf", 3)
    return schema


def random_namespace(choose: random.Random) -> ToolNamespace:
    if choose.random() < 0.2:
        return choose.choice([browser(), python(), python("stateless")])
    tools = tuple(
        Tool(choose.choice(["f", "g", "get_weather"]), choose.choice(TEXTS), choose.choice([None, {}, random_schema(choose)]))
        for _ in range(choose.randrange(3))
    )
    name = choose.choice(["functions", "functions", "db", "é"])
    return ToolNamespace(name, choose.choice([None, *TEXTS]), tools, choose.choice([None, None, "functions", "B", "a"]))


def random_tools(choose: random.Random) -> tuple[ToolNamespace, ...]:
    several = [random_namespace(choose) for _ in range(choose.choice([0, 0, 1, 2, 3]))]
    return tuple({namespace.sort_key: namespace for namespace in several}.values())


def random_message(choose: random.Random) -> Message:
    role = choose.choice(["system", "developer", "user", "assistant", "assistant", "tool"])
    content: Any = tuple(choose.choice(TEXTS) for _ in range(choose.randrange(3)))
    if role == "system" and choose.random() < 0.8:
        some = [choose.choice([None, *TEXTS]) for _ in range(3)]
        channels = tuple(choose.sample(CHANNELS, choose.randrange(4)))
        effort = choose.choice([None, "low", "medium", "high"])
        content = SystemContent(some[0], effort, some[1], some[2], channels, choose.random() < 0.5, random_tools(choose))
    elif role == "developer" and choose.random() < 0.8:
        content = DeveloperContent(choose.choice([None, *TEXTS]), random_tools(choose))
    name = choose.choice(["f", "functions.f"]) if role == "tool" else choose.choice(FIELDS) if choose.random() < 0.2 else None
    channel = choose.choice([*CHANNELS, *CHANNELS, None, "", "x"]) if role in ("assistant", "tool") else None
    recipient = choose.choice([*FIELDS, "all"]) if role in ("assistant", "tool") and choose.random() < 0.3 else None
    content_type = choose.choice([None, None, None, "json", "<|constrain|>json", "<|constrain|>", "", "code", "json<|constrain|>", "<|constrain|>json <|message|>"])
    return Message(role, content, name, channel, recipient, content_type)  # type: ignore[arg-type]


def _wire_tools(namespaces: tuple[ToolNamespace, ...]) -> dict[str, Any] | None:
    return {
        n.name if n.key is None else n.key: {
            "name": n.name,
            "description": n.description,
            "tools": [{"name": t.name, "description": t.description or "", "parameters": t.parameters} for t in n.tools],
        }
        for n in namespaces
    } or None


def wire_item(item: Any) -> dict[str, Any]:
    """A content item as openai-harmony's own JSON has it; a null field is left out of the rendering."""
    if isinstance(item, SystemContent):
        channels = {"valid_channels": list(item.valid_channels), "channel_required": item.channel_required}
        return {
            "type": "system_content",
            "model_identity": item.model_identity,
            "reasoning_effort": item.reasoning_effort.capitalize() if item.reasoning_effort else None,
            "knowledge_cutoff": item.knowledge_cutoff,
            "conversation_start_date": item.conversation_start_date,
            "channel_config": channels,
            "tools": _wire_tools(item.tools),
        }
    if isinstance(item, DeveloperContent):
        return {"type": "developer_content", "instructions": item.instructions, "tools": _wire_tools(item.tools)}
    return {"type": "text", "text": item}


def wire_message(m: Message) -> dict[str, Any]:
    return {
        "role": m.role,
        "name": m.name,
        "channel": m.channel,
        "recipient": m.recipient,
        "content_type": m.content_type,
        "content": [wire_item(item) for item in m.items],
    }


def wire(messages: list[Message]) -> str:
    return json.dumps({"messages": [wire_message(message) for message in messages]})
