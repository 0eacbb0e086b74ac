"""The Harmony chat format: conversations to tokens, and generated tokens back to messages.

`render` makes a prompt from chat messages and tools, `Parser` reads the completion, `stop_ids` says where generation
ends, and `Conversation` keeps both, token for token. `Message`, `SystemContent` and `DeveloperContent` describe a
conversation exactly; `render_conversation` and its kin render that.
"""

from gptoss_native.harmony.budget import closing_ids
from gptoss_native.harmony.callables import tool_from_callable
from gptoss_native.harmony.chat import system_channels
from gptoss_native.harmony.clients import ChatMessage, Messages, read_messages
from gptoss_native.harmony.compat import CompatParser
from gptoss_native.harmony.compat_header import ParseError
from gptoss_native.harmony.controls import stop_ids
from gptoss_native.harmony.conversation import Conversation
from gptoss_native.harmony.messages import (
    DeveloperContent,
    Message,
    MessageError,
    ResponseFormat,
    SystemContent,
)
from gptoss_native.harmony.parser import Parser
from gptoss_native.harmony.prompt import instructions_end, render
from gptoss_native.harmony.render import (
    render_conversation,
    render_conversation_for_completion,
    render_conversation_for_training,
    render_message,
)
from gptoss_native.harmony.specs import toolbox
from gptoss_native.harmony.toolbox import Toolbox, ToolCall
from gptoss_native.harmony.tools import Tool, ToolNamespace, browser, functions, python

__all__ = [
    "ChatMessage",
    "CompatParser",
    "Conversation",
    "DeveloperContent",
    "Message",
    "MessageError",
    "Messages",
    "ParseError",
    "Parser",
    "ResponseFormat",
    "SystemContent",
    "Tool",
    "ToolCall",
    "ToolNamespace",
    "Toolbox",
    "browser",
    "closing_ids",
    "functions",
    "instructions_end",
    "python",
    "read_messages",
    "render",
    "render_conversation",
    "render_conversation_for_completion",
    "render_conversation_for_training",
    "render_message",
    "stop_ids",
    "system_channels",
    "tool_from_callable",
    "toolbox",
]
