"""gptoss-native tokens: how a text, a conversation, or a list of ids tokenizes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptoss_native.checkpoint.checkpoint import open_checkpoint
from gptoss_native.checkpoint.files import side_file
from gptoss_native.checkpoint.hub import find_model
from gptoss_native.cli.generate import token_ids
from gptoss_native.cli.options import add_model, model_path, usage_error
from gptoss_native.cli.pieces import piece, shown
from gptoss_native.cli.stdin import read_stdin, text_argument
from gptoss_native.cli.tables import Row, print_rows
from gptoss_native.cli.terminal import visible
from gptoss_native.config.strict_json import counted, read_object
from gptoss_native.errors import TokenizerError
from gptoss_native.harmony import render
from gptoss_native.tokenizer import Tokenizer

if TYPE_CHECKING:
    from argparse import _SubParsersAction


MANY = 1000
"""Rows that a table is not laid out for."""


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("tokens", help="how a text or a conversation tokenizes", description=(
        "Show the token ids of a text with the text of each; of a conversation as Harmony renders it, up to where the "
        "model would go on; or the text of ids. Weights are not read."))
    parser.add_argument("text", nargs="?", help='the text; "-" reads stdin')
    parser.add_argument("--messages", metavar="FILE",
                        help='a JSON list of messages such as [{"role": "user", "content": "Hello"}]; "-" reads stdin')
    parser.add_argument("--ids", type=token_ids, metavar="1,2,3", help="token ids instead of a text")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    add_model(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    if sum(each is not None for each in (arguments.text, arguments.messages, arguments.ids)) != 1:
        usage_error(arguments, "give one of a text, --messages and --ids")
    text = None if arguments.text is None else text_argument(arguments.text)
    messages = None if arguments.messages is None else _messages(arguments.messages)
    tokenizer = open_tokenizer(arguments.model)
    if text is not None:
        ids = tokenizer.encode(text)
    elif messages is not None:
        ids = render(messages, tokenizer)
    else:
        ids = arguments.ids
    if arguments.json:
        print(json.dumps({"count": len(ids), "text": tokenizer.decode(ids),
                          "tokens": [piece(each, tokenizer) for each in ids]}))
    else:
        if arguments.ids is not None or messages is not None:
            whole = tokenizer.decode(ids)
            print(visible(whole) if sys.stdout.isatty() else whole, end="\n\n")
        rows = (Row(str(each), shown(each, tokenizer)) for each in ids)
        print_rows(rows, plain=arguments.plain or len(ids) > MANY, line="{0:>7} {1}", right=(0,))
        print(counted(len(ids), "token"))
    return 0


def open_tokenizer(name: str | None) -> Tokenizer:
    """From tokenizer.json and config.json alone, where they lie in the folder; weights may be missing."""
    folder = find_model(model_path(name), download=False)
    path, config = side_file(folder, "tokenizer.json"), folder / "config.json"
    if path is not None and config.exists():
        size = read_object(config).get("vocab_size")
        if type(size) is int and size > 0:
            return Tokenizer.from_file(path, size)
    checkpoint = open_checkpoint(folder)  # original/ perhaps; and this says what is wrong with the folder
    if checkpoint.tokenizer_path is None:
        raise TokenizerError(f"{checkpoint.path} has no tokenizer.json")
    return Tokenizer.from_file(checkpoint.tokenizer_path, checkpoint.config.vocab_size)


def _messages(name: str) -> Sequence[Any]:
    source = "stdin" if name == "-" else name
    try:
        data = json.loads(read_stdin() if name == "-" else Path(name).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{source}: not JSON ({error})") from None
    messages: Sequence[Any] = data.get("messages", data) if isinstance(data, dict) else data
    return messages
