"""Random and mutated token streams for the tolerant parser: nothing raises, every byte is accounted for.

The suite runs a few thousand. `python tests/fuzz_harmony.py 1000000 [seed]`, from the top of the tree with
PYTHONPATH=python, runs as many as one likes.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from gptoss_native import harmony
from gptoss_native.events import Delta, Done, Event, MessageDone, ToolCallDone
from gptoss_native.harmony import Message, Parser, Tool, Toolbox
from gptoss_native.harmony.controls import Control, control_ids
from gptoss_native.tokenizer import Tokenizer
from harmony_streams import stream
from vocabularies import small_tokenizer

TOOLS = Toolbox((Tool("f"), Tool("python", None, {"type": "object"})))


def parsed(tokenizer: Tokenizer, ids: list[int], cuts: list[int], role: str | None) -> list[Event]:
    parser = Parser(tokenizer, role, tools=TOOLS)  # type: ignore[arg-type]
    events = []
    for start, end in zip([0, *cuts], [*cuts, len(ids)]):
        events += parser.feed(ids[start:end])
    return events + parser.finish()


def check(tokenizer: Tokenizer, ids: list[int], choose: random.Random) -> None:
    """Raises AssertionError if the stream is not read as every stream should be; one in four is also read in other
    batches, and rendered again."""
    role = choose.choice(["assistant", "assistant", None])
    events = parsed(tokenizer, ids, [], role)
    done = events[-1]
    assert isinstance(done, Done)
    deltas_add_up(events)
    assert [token for message in done.messages for token in message.token_ids] + list(done.trailing) == ids
    controls = control_ids(tokenizer)
    bytes_are_accounted_for(done.messages, tokenizer, controls)
    if choose.random() > 0.25:
        return
    ended = [event for event in events if isinstance(event, MessageDone)]
    for cuts in (list(range(1, len(ids))), sorted(choose.randrange(len(ids) + 1) for _ in range(3))):
        others = parsed(tokenizer, ids, cuts, role)
        assert others[-1] == done and [event for event in others if isinstance(event, MessageDone)] == ended
        deltas_add_up(others)
    harmony.render_conversation(done.messages, tokenizer, drop_analysis="none")


def deltas_add_up(events: list[Event]) -> None:
    pieces: list[Delta] = []
    called = False
    for event in events[:-1]:
        if isinstance(event, ToolCallDone):
            called = True
        elif isinstance(event, MessageDone):
            assert "".join(piece.text for piece in pieces) == event.message.text
            assert len({type(piece) for piece in pieces}) <= 1 and called == (event.message.call is not None)
            assert called == (event.message.kind == "call")
            pieces, called = [], False
        else:
            assert not isinstance(event, Done) and event.text
            pieces.append(event)
    assert not pieces and not called


def written(ids: Sequence[int], tokenizer: Tokenizer, controls: Mapping[int, Control], cut: bool = True) -> str:
    """The text of the ordinary tokens. cut: runs between control tokens are decoded apart."""
    text, run = "", b""
    for token in ids:
        if token in controls and not cut:
            continue
        if token in controls:
            text, run = text + run.decode("utf-8", "replace"), b""
        else:
            known = 0 <= token < tokenizer.vocab_size
            run += tokenizer.token_bytes(token) if known else "\ufffd".encode()
    return text + run.decode("utf-8", "replace")


def counted(text: str) -> Counter[str]:
    return Counter("".join(text.replace("\ufffd", "").split()).lower())


def bytes_are_accounted_for(messages: Sequence[Message], tokenizer: Tokenizer, controls: Mapping[int, Control]) -> None:
    """What was written is content, a field of a header or stray, and content and stray were written. A character with
    a control token amid its bytes may be either whole or not."""
    marker = tokenizer.specials["<|message|>"]
    for message in messages:
        if not message.malformed and marker in message.token_ids:
            at = message.token_ids.index(marker)
            assert message.text == written(message.token_ids[at + 1 :], tokenizer, controls)
    ids = [token for message in messages for token in message.token_ids]
    fields = [f for m in messages for f in (m.role, m.name, m.channel, m.recipient, m.content_type, "to= :") if f]
    whole = counted(written(ids, tokenizer, controls, cut=False))
    found = counted("".join(written(message.token_ids, tokenizer, controls) for message in messages))
    told = counted("".join(message.text + message.stray for message in messages))
    allowed = counted("".join(fields))
    lost, invented = (found & whole) - told - allowed, told - (found | whole)
    assert not lost, f"lost {lost} from {messages}"
    assert not invented, f"invented {invented} in {messages}"


def run(count: int, seed: int, tokenizer: Tokenizer) -> int:
    """Checks `count` streams and returns how many tokens they had."""
    choose = random.Random(seed)
    tokens = 0
    for number in range(count):
        ids = stream(tokenizer, choose)
        tokens += len(ids)
        try:
            check(tokenizer, ids, choose)
        except Exception as error:
            shown = [tokenizer.decode([i]) if 0 <= i < tokenizer.vocab_size else i for i in ids]
            raise AssertionError(f"stream {number} of seed {seed}, {shown}: {error!r}") from error
    return tokens


if __name__ == "__main__":
    begin = time.monotonic()
    how_many = int(sys.argv[1])
    total = run(how_many, int(sys.argv[2]) if len(sys.argv) > 2 else 0, small_tokenizer())
    print(f"{how_many} streams, {total} tokens, {time.monotonic() - begin:.0f} s: no exception, every byte accounted for")
