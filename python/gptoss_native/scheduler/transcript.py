"""What has come of one request: items of the driver in, tokens with their text out, completions at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gptoss_native.sampling.stops import TextReader
from gptoss_native.scheduler.request import Drawn, Ended, Item, Prefilled, Request
from gptoss_native.scheduler.results import Completion, StreamToken, TopLogprobs
from gptoss_native.tokenizer import Tokenizer

Progress = Callable[[str, int, int], None]


class Transcript:
    """Of a request for n samples. progress: called with ("prefill", done, total) for every Prefilled."""

    def __init__(self, request: Request, tokenizer: Tokenizer | None, progress: Progress | None) -> None:
        self._samples = [_Sample(request, index, tokenizer) for index in range(request.params.n)]
        self._open = len(self._samples)
        self._progress = progress

    @property
    def ended(self) -> bool:
        """Whether all samples are complete."""
        return self._open == 0

    @property
    def tokens(self) -> tuple[int, ...]:
        """Of the first sample, so far."""
        return tuple(self._samples[0].tokens)

    def take(self, item: Item) -> StreamToken | None:
        """The token that `item` brought, if it did."""
        if isinstance(item, Drawn):
            return self._samples[item.sample].take(item)
        if isinstance(item, Ended):
            self._samples[item.sample].end = item
            self._open -= 1
        elif isinstance(item, Prefilled) and self._progress is not None:
            report(self._progress, item)
        return None

    @property
    def completion(self) -> Completion:
        """The first sample with the others in it; only once all have ended."""
        first, *others = [sample.completion() for sample in self._samples]
        return replace(first, others=tuple(others))


def report(progress: Progress, item: Prefilled) -> None:
    """Tell it. What it raises is the caller's."""
    try:
        progress("prefill", item.done, item.total)
    except (StopIteration, StopAsyncIteration) as error:  # out of an iterator it would say that all went well
        raise RuntimeError(f"progress raised {type(error).__name__}") from error


class _Sample:
    def __init__(self, request: Request, index: int, tokenizer: Tokenizer | None) -> None:
        params = request.params
        self._request, self._index = request, index
        self._reader = None if tokenizer is None else TextReader(tokenizer, tuple(params.stop), params.min_tokens)
        self._pieces: list[str] = []
        self._logprobs: list[float] = []
        self._top_logprobs: list[TopLogprobs] = []
        self.tokens: list[int] = []
        self.end: Ended | None = None

    def take(self, drawn: Drawn) -> StreamToken:
        self.tokens.append(drawn.token)
        if drawn.logprob is not None:
            self._logprobs.append(drawn.logprob)
            self._top_logprobs.append(drawn.top_logprobs)
        return StreamToken(drawn.token, self._piece(drawn), drawn.finish_reason, drawn.logprob, drawn.top_logprobs,
                           self._index, drawn.forced)

    def _piece(self, drawn: Drawn) -> str | None:
        if self._reader is None:
            return None
        piece = "" if drawn.token in self._request.stop_ids else self._reader.feed(drawn.token)
        if drawn.finish_reason is not None:
            piece += self._reader.finish()
        self._pieces.append(piece)
        return piece

    def completion(self) -> Completion:
        assert self.end is not None
        asked = self._request.params.logprobs
        return Completion(
            tokens=tuple(self.tokens), text=None if self._reader is None else "".join(self._pieces),
            finish_reason=self.end.finish_reason, prompt_tokens=len(self._request.prompt),
            cached_tokens=self.end.cached_tokens, seed=self._request.seed, queue_seconds=self.end.queue_seconds,
            prefill_seconds=self.end.prefill_seconds, decode_seconds=self.end.decode_seconds,
            logprobs=tuple(self._logprobs) if asked else None,
            top_logprobs=tuple(self._top_logprobs) if asked else None)
