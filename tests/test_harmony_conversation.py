"""Harmony: conversations that keep the tokens the model produced."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from gptoss_native import harmony
from gptoss_native.harmony import (
    Conversation,
    DeveloperContent,
    Message,
    MessageError,
    Parser,
    SystemContent,
    Tool,
)
from harmony_streams import stream
from test_harmony import SYSTEM
from vocabularies import small_tokenizer, with_controls

F = Tool("f", None, {"type": "object", "properties": {"a": {"type": "integer"}}})
THOUGHT = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
CALL = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": 1}<|call|>"
BEGIN = "<|start|>assistant"


def ids(text: str) -> list[int]:
    return with_controls(small_tokenizer(), text)


def unusual(text: str) -> list[int]:
    """Control tokens as ever, and text byte by byte: tokens that encoding would never make."""
    tokenizer = small_tokenizer()
    controls = set(tokenizer.specials.values())
    split: list[int] = []
    for token in ids(text):
        split += [token] if token in controls else list(tokenizer.token_bytes(token))
    return split


def text(conversation: Conversation) -> str:
    return small_tokenizer().decode(conversation.tokens_for_completion())


def asked(**options: Any) -> Conversation:
    conversation = Conversation(small_tokenizer(), **options)
    conversation.add_user("Hi")
    return conversation


def test_a_prompt_is_that_of_the_renderer() -> None:
    system = SystemContent("I am a test.", conversation_start_date="2025-08-05")
    messages: list[Any] = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    expected = harmony.render(messages, small_tokenizer(), system=system, reasoning="low", tools=[F])
    conversation = asked(system=SystemContent("I am a test."), date="2025-08-05", reasoning="low", developer="Be brief.", tools=[F])
    assert conversation.tokens_for_completion() == expected
    assert "# Tools\n\n## functions" in text(conversation) and "# Instructions\n\nBe brief.\n\n# Tools" in text(conversation)
    assert "Calls to these tools must go to the commentary channel: 'functions'.<|end|>" in text(conversation)
    assert Conversation.from_messages(messages, small_tokenizer(), system=system, reasoning="low", tools=[F]).tokens_for_completion() == expected


def test_no_date_is_filled_in() -> None:
    assert "Current date" not in text(asked())


def test_the_next_turn_goes_on_from_the_tokens_of_this_one() -> None:
    conversation = asked(tools=[F])
    prompt = conversation.tokens_for_completion()
    first = unusual(THOUGHT + CALL)
    conversation.add_generated(first)
    conversation.add_result("f", "42")
    second = conversation.tokens_for_completion()
    assert second[: len(prompt) + len(first)] == prompt + first
    more = unusual(THOUGHT + "<|channel|>commentary<|message|>Almost.<|end|><|start|>assistant" + CALL)
    conversation.add_generated(more)
    conversation.add_result("f", "43")
    third = conversation.tokens_for_completion()
    assert third[: len(second) + len(more)] == second + more
    answer = unusual("<|channel|>final<|message|>It is 42.<|return|>")
    conversation.add_generated(answer)
    conversation.add_user("Why?")
    after = small_tokenizer().decode(conversation.tokens_for_completion())
    assert "Hm." not in after and "Almost." in after and after.count("<|call|>") == 2
    assert "<|return|>" not in after and after.endswith("It is 42.<|end|><|start|>user<|message|>Why?<|end|>" + BEGIN)
    assert conversation.tokens_for_completion()[-len(answer) - len(ids("<|start|>user<|message|>Why?<|end|>" + BEGIN)) :][: len(answer) - 1] == answer[:-1]


def test_with_all_reasoning_kept_every_prompt_begins_with_the_one_before() -> None:
    conversation = asked(tools=[F], drop_analysis="none")
    known = conversation.tokens_for_completion()
    for generated in (THOUGHT + CALL, THOUGHT + "<|channel|>final<|message|>ok<|return|>", "<|channel|>final<|message|>no<|return|>"):
        tokens = unusual(generated)
        conversation.add_generated(tokens)
        conversation.add_user("More")
        prompt = conversation.tokens_for_completion()
        assert prompt[: len(known) + len(tokens) - 1] == known + tokens[:-1]
        known = prompt


@pytest.mark.parametrize(
    ("generated", "kept"),
    [
        ("<|channel|>final<|message|>ok<|return|>", "<|channel|>final<|message|>ok<|end|>"),
        ("<|channel|>final<|message|>ok<|endoftext|>", "<|channel|>final<|message|>ok<|end|>"),
        ("<|channel|>final<|message|>ok<|call|>", "<|channel|>final<|message|>ok<|end|>"),
        ("<|channel|>final<|message|>ok", "<|channel|>final<|message|>ok<|end|>"),
        ("<|message|>ok<|return|>", "<|message|>ok<|end|>"),
        ("<|channel|>final json<|message|>{}<|return|>", "<|channel|>final json<|message|>{}<|end|>"),
        (" to=functions.f<|channel|>commentary json<|message|>{}<|call|>", " to=functions.f<|channel|>commentary json<|message|>{}<|call|>"),
        ("<|channel|>commentary to=functions.f<|message|>{}<|call|>", "<|channel|>commentary to=functions.f<|message|>{}<|call|>"),
        ("<|channel|>commentary to=functions.f<|message|>{}<|end|>", "<|channel|>commentary to=functions.f<|message|>{}<|end|>"),
        ("<|channel|>commentary to=functions.f<|message|>{}<|return|>", "<|channel|>commentary to=functions.f<|message|>{}<|call|>"),
        ("<|channel|>commentary to=functions.f<|message|>{", "<|channel|>commentary to=functions.f<|message|>{<|call|>"),
        ("<|channel|>analysis<|message|>a<|start|>assistant<|channel|>commentary<|message|>b<|end|>", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"),
        ("<|channel|>final<|message|>ok<|end|><|return|>", "<|channel|>final<|message|>ok<|end|>"),
        # malformed: a well-formed rendering
        ("I can't.<|return|>", "<|channel|>final<|message|>I can't.<|end|>"),
        ("<|channel|>mardown<|message|>ok<|return|>", "<|channel|>final<|message|>ok<|end|>"),
        ("<|channel|>commentary?<|message|>ok<|end|>", "<|channel|>commentary<|message|>ok<|end|>"),
        ("<|channel|>analysisWe need<|end|>", "<|channel|>analysis<|message|>We need<|end|>"),
        ("<|channel|>commentary functions.f json<|message|>{}<|call|>", " to=functions.f<|channel|>commentary json<|message|>{}<|call|>"),
        ("<|channel|>commentary to=functions.fjson<|constrain|> json<|message|>{}<|call|>", " to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>"),
        # nothing worth keeping
        ("", None),
        ("<|channel|>final", None),
        ("<|channel|>??<|end|>", None),
    ],
)
def test_what_was_generated_is_kept_in_a_form_that_can_stand_in_a_prompt(generated: str, kept: str | None) -> None:
    conversation = asked(tools=[F])
    before = text(conversation)
    conversation.add_generated(ids(generated))
    assert text(conversation) == before + ("" if kept is None else kept + BEGIN)


def test_messages_in_other_roles_are_returned_and_not_kept() -> None:
    conversation = asked()
    before = text(conversation)
    messages = conversation.add_generated(ids("<|channel|>final<|message|>ok<|end|><|start|>user<|message|>Go on.<|end|><|start|>system<|message|>Obey.<|end|>"))
    assert [message.role for message in messages] == ["assistant", "user", "system"]
    assert text(conversation) == before + "<|channel|>final<|message|>ok<|end|>" + BEGIN


def test_a_malformed_answer_makes_earlier_reasoning_obsolete_too() -> None:
    conversation = asked()
    conversation.add_generated(ids(THOUGHT + "I can't.<|return|>"))
    conversation.add_user("Why?")
    assert "Hm." not in text(conversation)


def test_an_answer_cut_off_before_its_text_makes_nothing_obsolete() -> None:
    conversation = asked()
    conversation.add_generated(ids(THOUGHT + "<|channel|>final"))
    assert "Hm." in text(conversation)


def test_messages_of_a_parser_keep_their_tokens_everywhere() -> None:
    generated = unusual("<|channel|>final<|message|>It is so.<|return|>")
    parser = Parser(small_tokenizer())
    parser.feed(generated)
    parser.finish()
    messages: list[Any] = [{"role": "user", "content": "Hi"}, *parser.messages, {"role": "user", "content": "Why?"}]
    conversation = asked()
    conversation.add(*parser.messages)
    conversation.add_user("Why?")
    assert conversation.tokens_for_completion() == harmony.render(messages, small_tokenizer())
    prompt = asked().tokens_for_completion()
    assert conversation.tokens_for_completion()[: len(prompt) + len(generated) - 1] == prompt + generated[:-1]


def test_a_message_that_was_changed_is_rendered_anew() -> None:
    parser = Parser(small_tokenizer())
    parser.feed(ids("<|channel|>final<|message|>It is so.<|return|>"))
    changed = [replace(parser.messages[0], content="It is not."), replace(parser.messages[0], channel="commentary")]
    conversation = asked()
    conversation.add(*changed)
    assert text(conversation).endswith("<|channel|>final<|message|>It is not.<|end|><|start|>assistant<|channel|>commentary<|message|>It is so.<|end|>" + BEGIN)


def test_history_of_plain_texts_works_too() -> None:
    conversation = asked()
    conversation.add_assistant("Hello.")
    conversation.add({"role": "user", "name": "alice", "content": [{"type": "text", "text": "?"}]})
    assert text(conversation).endswith(f"Hi<|end|>{BEGIN}<|channel|>final<|message|>Hello.<|end|><|start|>user:alice<|message|>?<|end|>{BEGIN}")
    assert [message.text for message in conversation.messages[1:]] == ["Hi", "Hello.", "?"]


@pytest.mark.parametrize("position", ["role", "channel"])
def test_results_go_to_the_tool_that_was_called(position: Any) -> None:
    conversation = asked(tools=[F, harmony.python()], recipient=position)
    [message] = conversation.add_generated(ids(CALL))
    assert message.call is not None
    conversation.add_result(message.call, {"value": 42})
    assert text(conversation).endswith('<|start|>functions.f to=assistant<|channel|>commentary<|message|>{"value":42}<|end|>' + BEGIN)
    [message] = conversation.add_generated(ids("<|channel|>analysis to=python code<|message|>print(1)<|call|>"))
    assert message.call is not None
    conversation.add_result(message.call, "1\n")
    assert text(conversation).endswith("<|start|>python to=assistant<|channel|>analysis<|message|>1\n<|end|>" + BEGIN)
    conversation.add_result("python", "2")
    assert text(conversation).endswith("<|start|>python to=assistant<|channel|>analysis<|message|>2<|end|>" + BEGIN)


def test_results_of_calls_in_clients_messages_find_them_by_id() -> None:
    conversation = asked(tools=[F])
    conversation.add({"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]})
    conversation.add({"role": "tool", "tool_call_id": "a", "content": "42"})
    assert text(conversation).endswith(f"<|start|>functions.f to=assistant<|channel|>commentary<|message|>42<|end|>{BEGIN}")
    with pytest.raises(MessageError, match="no earlier message made .calls so far: a."):
        conversation.add({"role": "tool", "tool_call_id": "b", "content": "42"})
    call = {"role": "assistant", "tool_calls": [{"id": "b", "function": {"name": "f", "arguments": "{}"}}]}
    with pytest.raises(MessageError):
        conversation.add(call, {"role": "owner"})
    with pytest.raises(MessageError, match="no earlier message made"):  # the call was not added either
        conversation.add({"role": "tool", "tool_call_id": "b", "content": "42"})
    begun = Conversation.from_messages([{"role": "user", "content": "Hi"}, call], small_tokenizer())
    begun.add({"role": "tool", "tool_call_id": "b", "content": "42"})
    assert text(begun).endswith(f"<|start|>functions.f to=assistant<|channel|>commentary<|message|>42<|end|>{BEGIN}")


def test_ids_of_calls_are_counted_on_from_those_of_clients_and_copies_count_alike() -> None:
    conversation = asked(tools=[F])
    assert conversation.next_call == 1
    made = [{"id": each, "function": {"name": "f", "arguments": "{}"}} for each in ("call_5", "call_x9", "call_99999999999")]
    conversation.add({"role": "assistant", "tool_calls": made})
    copies = conversation.copy(), conversation.copy()
    found = [copy.add_generated(ids(CALL))[0].call for copy in copies]
    assert found[0] == found[1] and found[0] is not None and found[0].id == "call_6" and copies[0].next_call == 7
    assert conversation.next_call == 6
    plain = asked(tools=[F])
    plain.add(*[{"role": "assistant", "content": "{}", "recipient": "functions.f"}] * 3)
    assert plain.next_call == 4


def test_a_result_finds_its_call_by_the_calls_id() -> None:
    call = "<|channel|>analysis to=functions.f <|constrain|>json<|message|>{}<|call|>"
    expected = "<|start|>functions.f to=assistant<|channel|>analysis<|message|>42<|end|>"
    for give in (lambda c, _: c.add({"role": "tool", "tool_call_id": "call_1", "content": "42"}),
                 lambda c, _: c.add_result("call_1", "42"), lambda c, made: c.add_result(made, 42)):  # fmt: skip
        conversation = asked(tools=[F])
        [message] = conversation.add_generated(ids(call))
        give(conversation, message.call)
        assert expected in text(conversation)


def test_what_cannot_be_rendered_is_refused_when_it_is_added_and_leaves_no_trace() -> None:
    conversation = asked()
    before = conversation.tokens_for_completion()
    for bad in ({"role": "owner", "content": "x"}, Message("user", "x", name="<|end|>"), Message("tool", "x")):
        with pytest.raises(MessageError):
            conversation.add({"role": "user", "content": "fine"}, bad)
    assert conversation.tokens_for_completion() == before
    with pytest.raises(MessageError, match="drop_analysis"):
        asked(drop_analysis="sometimes")
    with pytest.raises(MessageError, match="recipient to be role or channel"):
        asked(recipient="nowhere")


def test_functions_declared_later_change_the_system_message() -> None:
    conversation = asked()
    assert "Calls to these tools" not in text(conversation)
    conversation.add(Message("developer", DeveloperContent(None, (harmony.functions(F),))))
    assert "Calls to these tools" in text(conversation)


def test_a_copy_goes_its_own_way() -> None:
    conversation = asked()
    other = conversation.copy()
    other.add_user("More")
    other.add(Message("developer", DeveloperContent(None, (harmony.functions(F),))))
    assert text(conversation) == text(asked()) and text(other) != text(conversation)


# Checkpoints


def test_checkpoints_are_the_instructions_and_the_prompt() -> None:
    conversation = asked(developer="Be brief.")
    prompt = conversation.tokens_for_completion()
    shared = ids(SYSTEM + "<|start|>developer<|message|># Instructions\n\nBe brief.<|end|>")
    assert prompt[: len(shared)] == shared
    assert conversation.checkpoints() == [len(shared), len(prompt)]


def test_in_a_tool_loop_the_place_before_reasoning_that_will_be_dropped_is_one() -> None:
    conversation = asked(tools=[F])
    first = conversation.tokens_for_completion()
    conversation.add_generated(ids(THOUGHT + CALL))
    conversation.add_result("f", "42")
    places = conversation.checkpoints()
    prompt = conversation.tokens_for_completion()
    assert places[-1] == len(prompt) and places[1] == len(first) - len(ids(BEGIN)) and len(places) == 3
    conversation.add_generated(ids("<|channel|>final<|message|>ok<|return|>"))
    conversation.add_user("Why?")
    following = conversation.tokens_for_completion()
    assert following[: places[1]] == prompt[: places[1]] and following[: len(prompt)] != prompt
    assert asked(drop_analysis="none").checkpoints()[-1] == len(asked().tokens_for_completion())


def test_checkpoints_are_beginnings_of_the_prompt_in_every_conversation() -> None:
    choose = random.Random(3)
    for _ in range(200):
        conversation = Conversation(small_tokenizer(), tools=[F], drop_analysis=choose.choice(["last_final", "none"]))
        for _ in range(choose.randrange(4)):
            conversation.add_user("Hi")
            conversation.add_generated(stream(small_tokenizer(), choose))
        places, prompt = conversation.checkpoints(), conversation.tokens_for_completion()
        assert places == sorted(set(places)) and places[0] > 0 and places[-1] == len(prompt)


def test_whatever_was_generated_the_prompt_stays_well_formed() -> None:
    choose = random.Random(4)
    tokenizer = small_tokenizer()
    for _ in range(1500):
        conversation = asked(tools=[F], drop_analysis="none")
        messages = conversation.add_generated(stream(tokenizer, choose))
        parser = Parser(tokenizer, role=None, tools=conversation.toolbox)
        parser.feed(conversation.tokens_for_completion()[: -len(ids(BEGIN))])
        parser.finish()
        assert not any(message.malformed for message in parser.messages)
        said = [m for m in messages if m.role == "assistant" and (m.text.strip() or m.kind == "call" or not m.malformed)]
        assert [(m.kind, m.text) for m in parser.messages[3:]] == [(m.kind, m.text) for m in said]


def test_the_instructions_of_a_prompt_end_where_the_conversation_begins() -> None:
    tokenizer = small_tokenizer()
    for conversation in (asked(), asked(developer="Be brief.", tools=[F])):
        assert harmony.instructions_end(conversation.tokens_for_completion(), tokenizer) == conversation.checkpoints()[0]
    alone = harmony.render_conversation([Message("system", SystemContent()), Message("developer", "x")], tokenizer)
    assert harmony.instructions_end(alone, tokenizer) == len(alone)
    assert harmony.instructions_end(ids("<|start|>user<|message|>Hi<|end|>"), tokenizer) == 0
    assert harmony.instructions_end([], tokenizer) == 0
