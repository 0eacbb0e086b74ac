"""A conversation that keeps the tokens: what the model wrote is never tokenized again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, takewhile
from typing import Any

from gptoss_native.harmony.chat import chat_messages, declare, read_response_format, system_message
from gptoss_native.harmony.clients import (
    ChatMessage,
    MessageReader,
    Messages,
    read_messages,
    result_message,
    text_or_json,
)
from gptoss_native.harmony.exact import generation_ids, history_ids
from gptoss_native.harmony.messages import (
    DeveloperContent,
    Effort,
    Message,
    ResponseFormat,
    SystemContent,
)
from gptoss_native.harmony.parser import Parser
from gptoss_native.harmony.render import (
    DropAnalysis,
    RecipientPosition,
    check_position,
    has_functions,
    kept_by,
    render_message,
)
from gptoss_native.harmony.specs import toolbox
from gptoss_native.harmony.toolbox import Toolbox, ToolCall
from gptoss_native.tokenizer import Tokenizer


class Conversation:
    """Messages and their token ids. Everything is checked and tokenized once, when it is added.

    tokenizer: of the model. system: what the system message says; `reasoning` and `date`, such as "2025-08-05", are put
    into it; no date is filled in. developer: instructions. tools: see `toolbox`. response_format: see
    `read_response_format`. drop_analysis, recipient: see `render_conversation`.

    Raises MessageError for what cannot be rendered, then and when something is added; nothing is added then.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        system: SystemContent | None = None,
        developer: str | DeveloperContent | None = None,
        tools: Toolbox | Iterable[Any] | None = None,
        response_format: ResponseFormat | Mapping[str, Any] | None = None,
        reasoning: Effort | None = None,
        date: str | None = None,
        drop_analysis: DropAnalysis = "last_final",
        recipient: RecipientPosition = "role",
    ) -> None:
        self.toolbox = Toolbox() if tools is None else toolbox(tools)
        if date is not None:
            system = replace(system or SystemContent(), conversation_start_date=date)
        beginning = [system_message(system, reasoning, self.toolbox)]
        if developer is not None:
            instructions = DeveloperContent(developer) if isinstance(developer, str) else developer
            beginning.append(Message("developer", instructions))
        formats = () if response_format is None else (read_response_format(response_format),)
        if self.toolbox.namespaces or formats:
            declare(beginning, DeveloperContent(None, self.toolbox.namespaces, formats))
        self._setup(tokenizer, beginning, drop_analysis, recipient)

    @classmethod
    def from_messages(
        cls,
        messages: Messages,
        tokenizer: Tokenizer,
        *,
        reasoning: Effort | None = None,
        system: SystemContent | None = None,
        tools: Toolbox | Iterable[Any] | None = None,
        response_format: ResponseFormat | Mapping[str, Any] | None = None,
        drop_analysis: DropAnalysis = "last_final",
        recipient: RecipientPosition = "role",
    ) -> Conversation:
        """One that has begun: `messages` as `render` takes them. Those that a Parser made keep their tokens."""
        conversation = cls.__new__(cls)
        conversation.toolbox = Toolbox() if tools is None else toolbox(tools)
        reader = MessageReader(conversation.toolbox)
        read = chat_messages(messages, reasoning=reasoning, system=system, tools=conversation.toolbox,
                             response_format=response_format, reader=reader)
        conversation._setup(tokenizer, read, drop_analysis, recipient)
        conversation._reader = reader
        return conversation

    def _setup(self, tokenizer: Tokenizer, messages: Sequence[Message], drop_analysis: DropAnalysis,
               recipient: RecipientPosition) -> None:
        kept_by((), drop_analysis)  # refuses what is no policy
        check_position(recipient)
        self._tokenizer, self._drop_analysis, self._recipient = tokenizer, drop_analysis, recipient
        self._reader = MessageReader(self.toolbox)
        self._messages: list[Message] = []
        self._judged: list[Message] = []  # as the drop policy is to see them
        self._ids: list[list[int]] = []
        self._told_of_functions = False
        self._add(messages)

    # What is said

    @property
    def messages(self) -> tuple[Message, ...]:
        """All of it, old reasoning too."""
        return tuple(self._messages)

    def add(self, *messages: ChatMessage) -> None:
        """Messages as `read_messages` takes them, also a parser's or a reply's, which keep their tokens."""
        if not messages:
            return
        reader = self._reader.copy()  # if anything is refused, no call is remembered
        self._add(read_messages(messages, reader=reader))
        self._reader = reader

    def add_user(self, text: str, name: str | None = None) -> None:
        """What the user says."""
        self._add([Message("user", text, name)])

    def add_assistant(self, text: str) -> None:
        """An answer of which there is only the text."""
        self._add([Message("assistant", text, channel="final")])

    def add_result(self, call: ToolCall | str, content: Any) -> None:
        """The result of a call, given by itself, its id or the name of the tool: text, or anything else as JSON."""
        made = self._reader.call(call.id if isinstance(call, ToolCall) else call)
        if isinstance(call, ToolCall):
            recipient = self.toolbox.recipient(call.name) if call.known else call.recipient
            made = made if made is not None and made.call == call else None
        else:
            recipient = self.toolbox.recipient(call) if made is None else made.recipient or ""
        channel = None if made is None else made.channel
        self._add([result_message(recipient, text_or_json(content, "the result"), channel)])

    def add_generated(self, tokens: Iterable[int]) -> tuple[Message, ...]:
        """The tokens that the model generated behind `tokens_for_completion()`, as messages.

        They stay as they are, but for malformed messages, which the prompts to come have in a well-formed rendering,
        and for messages in other roles, an invented user's for one, which are returned and not kept.
        """
        parser = Parser(self._tokenizer, "assistant", tools=self.toolbox, first_call=self.next_call)
        parser.feed(tokens)
        parser.finish()
        self.add(*(message for message in parser.messages if message.role == "assistant"))
        return tuple(parser.messages)

    @property
    def next_call(self) -> int:
        """The number of the call that the model makes next; no id of a call so far has it, or a higher one."""
        return 1 + max(self._reader.last_number, sum(message.kind == "call" for message in self._messages))

    def copy(self) -> Conversation:
        """The same, to go on differently."""
        other = Conversation.__new__(Conversation)
        other.__dict__.update(self.__dict__)
        other._ids = list(self._ids)  # the one list that is changed in place
        return other

    # What the model reads

    def tokens_for_completion(self) -> list[int]:
        """The prompt for the assistant's next turn."""
        ids = [token for part in self._parts() for token in part]
        return ids + generation_ids(self._tokenizer)

    def checkpoints(self) -> list[int]:
        """Lengths of beginnings of that prompt that others go on from, ascending: system and developer messages, which
        other conversations share; all before reasoning that the next answer makes obsolete; the whole prompt.
        """
        parts = self._parts()
        ends = [0, *accumulate(map(len, parts))]
        leading = len(list(takewhile(lambda m: m.role in ("system", "developer"), self._messages)))
        places = {ends[leading], ends[-1] + len(generation_ids(self._tokenizer))}
        if self._drop_analysis != "none":
            thinking = (ends[i] for i, message in enumerate(self._messages)
                        if parts[i] and message.channel == "analysis")
            places.update(list(thinking)[:1])
        return sorted(places - {0})

    def _parts(self) -> list[list[int]]:
        """Token ids of each message, none of those that are dropped."""
        kept = kept_by(self._judged, self._drop_analysis)
        return [ids if keep else [] for ids, keep in zip(self._ids, kept)]

    def _add(self, messages: Sequence[Message]) -> None:
        everything = [*self._messages, *messages]
        told = self._told_of_functions or has_functions(messages)
        ids = [self._render(message, told) for message in messages]
        if told != self._told_of_functions:  # the system message says so
            for i, message in enumerate(self._messages):
                if message.role == "system":
                    self._ids[i] = self._render(message, told)
        self._messages, self._told_of_functions = everything, told
        self._ids = [*self._ids, *ids]
        self._judged = [*self._judged, *(_judged(message, bool(own)) for message, own in zip(messages, ids))]

    def _render(self, message: Message, told: bool) -> list[int]:
        if message.token_ids and message.role == "assistant":
            return history_ids(message, self._tokenizer, self.toolbox, self._recipient)
        return render_message(message, self._tokenizer, has_functions=told, recipient=self._recipient)


def _judged(message: Message, kept: bool) -> Message:
    """An answer counts as one whatever channel the model put it on, unless nothing is left of it."""
    if not kept:
        return Message(message.role)
    return replace(message, channel="final") if message.token_ids and message.kind == "text" else message
