"""A conversation at the command line: its settings, its turns, and the next one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gptoss_native.chat.chat import Reasoning
from gptoss_native.chat.stream import ChatStream
from gptoss_native.engine.engine import Engine
from gptoss_native.harmony import ChatMessage, Conversation, Message, Toolbox
from gptoss_native.sampling.params import SamplingParams


@dataclass
class Settings:
    """What holds for the turns to come.

    system: instructions to the model, which Harmony puts into its developer message.
    """

    system: str | None = None
    reasoning: Reasoning = "medium"
    reasoning_budget: int | None = None
    stop_loops: bool = False
    params: SamplingParams = field(default_factory=SamplingParams)
    tools: Toolbox = field(default_factory=Toolbox)


class Session:
    """A turn counts only once it is kept: one that was stopped or failed is forgotten, with its question."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.conversation = self._asked = self._begin(())

    @property
    def turns(self) -> tuple[Message, ...]:
        """All that was said behind the instructions."""
        return self.conversation.messages[self._instructions:]

    def ask(self, question: str) -> ChatStream:
        """The answer, which keep() adds to the conversation."""
        settings = self.settings
        self._asked = self.conversation.copy()
        self._asked.add_user(question)
        return self.engine.stream_chat(
            self._asked, "off" if settings.reasoning == "off" else None, settings.params,
            reasoning_budget=settings.reasoning_budget, stop_loops=settings.stop_loops)

    def keep(self) -> None:
        self.conversation = self._asked

    def forget(self) -> None:
        """All turns; the settings stay."""
        self.conversation = self._begin(())

    def change(self, *, system: str | None, reasoning: Reasoning, turns: Iterable[ChatMessage] | None = None) -> None:
        """Other instructions, another effort, perhaps other turns. What cannot be rendered changes nothing."""
        before = self.settings.system, self.settings.reasoning
        self.settings.system, self.settings.reasoning = system, reasoning
        try:
            self.conversation = self._begin(self.turns if turns is None else turns)
        except BaseException:
            self.settings.system, self.settings.reasoning = before
            raise

    def _begin(self, turns: Iterable[ChatMessage]) -> Conversation:
        settings = self.settings
        conversation = self.engine.conversation(
            developer=settings.system, tools=settings.tools,
            reasoning="low" if settings.reasoning == "off" else settings.reasoning)
        instructions = len(conversation.messages)
        conversation.add(*turns)
        self._instructions = instructions
        return conversation
