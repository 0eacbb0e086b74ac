"""gpt-oss-20b and gpt-oss-120b, run natively.

    import gptoss_native as gptoss

    with gptoss.load("path/to/gpt-oss-20b") as engine:
        print(engine.chat([{"role": "user", "content": "Why is the sky blue?"}]).text)
"""

__version__ = "0.1.0"

from gptoss_native.chat.chat import ChatOptions
from gptoss_native.chat.reply import Reply
from gptoss_native.chat.stream import ChatStream
from gptoss_native.checkpoint.checkpoint import Checkpoint, open_checkpoint
from gptoss_native.config.config import Config, RopeScaling
from gptoss_native.engine.devices import DeviceFacts
from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load
from gptoss_native.engine.planning import Plan, plan
from gptoss_native.errors import (
    Cancelled,
    CheckpointError,
    DeviceError,
    GptOssError,
    OutOfMemory,
    QueueFull,
    Timeout,
    TokenizerError,
)
from gptoss_native.events import (
    Delta,
    Done,
    Event,
    MessageDone,
    OtherDelta,
    PreambleDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallDone,
    ToolResult,
)
from gptoss_native.harmony import (
    ChatMessage,
    Conversation,
    DeveloperContent,
    Message,
    MessageError,
    ResponseFormat,
    SystemContent,
    Tool,
    ToolCall,
)
from gptoss_native.native import info
from gptoss_native.sampling.params import LogitsMask, SamplingParams
from gptoss_native.scheduler.metrics import Metrics
from gptoss_native.scheduler.results import Completion, StreamToken
from gptoss_native.scheduler.stream import TokenStream
from gptoss_native.scheduler.transcript import Progress
from gptoss_native.tokenizer import TextStream, Tokenizer

__all__ = [
    "Cancelled",
    "ChatMessage",
    "ChatOptions",
    "ChatStream",
    "Checkpoint",
    "CheckpointError",
    "Completion",
    "Config",
    "Conversation",
    "Delta",
    "DeveloperContent",
    "DeviceError",
    "DeviceFacts",
    "Done",
    "Engine",
    "Event",
    "GptOssError",
    "LogitsMask",
    "Message",
    "MessageDone",
    "MessageError",
    "Metrics",
    "OtherDelta",
    "OutOfMemory",
    "Plan",
    "PreambleDelta",
    "Progress",
    "QueueFull",
    "ReasoningDelta",
    "Reply",
    "ResponseFormat",
    "RopeScaling",
    "SamplingParams",
    "StreamToken",
    "SystemContent",
    "TextDelta",
    "TextStream",
    "Timeout",
    "TokenStream",
    "Tokenizer",
    "TokenizerError",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallDone",
    "ToolResult",
    "info",
    "load",
    "open_checkpoint",
    "plan",
]
