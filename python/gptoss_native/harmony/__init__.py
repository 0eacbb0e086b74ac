"""The Harmony chat format: conversations to tokens, and generated tokens back to messages.

`render` makes a prompt from chat messages, `Parser` reads the completion, `stop_ids` says where generation
ends. `Message`, `SystemContent` and `DeveloperContent` describe a conversation exactly; `render_conversation`
renders that.
"""

from gptoss_native.harmony.chat import ChatMessage, render
from gptoss_native.harmony.controls import stop_ids
from gptoss_native.harmony.messages import DeveloperContent, Message, MessageError, SystemContent
from gptoss_native.harmony.parser import Parser
from gptoss_native.harmony.render import render_conversation, render_message

__all__ = [
    "ChatMessage",
    "DeveloperContent",
    "Message",
    "MessageError",
    "Parser",
    "SystemContent",
    "render",
    "render_conversation",
    "render_message",
    "stop_ids",
]
