"""SamplingParams and what was drawn so far, made into what the native sample stage takes for the next draw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from gptoss_native.native import _core
from gptoss_native.sampling.params import SamplingParams

Ids = npt.NDArray[np.int32]
Edits = tuple[Ids, Ids, Ids, npt.NDArray[np.float32]]


class Drawing:
    """One sequence's draws.

    index: which of the n samples of the prompt. stop_ids: forbidden until min_tokens were drawn. max_edits: how
    many different tokens may have a penalty or a bias: all that a sequence can hold, and MAX_BIASES others. ValueError
    where there are more biases.
    """

    def __init__(self, params: SamplingParams, seed: int, index: int, prompt: Ids, stop_ids: Iterable[int],
                 vocab_size: int, max_edits: int) -> None:
        self._params, self._seed, self._index = params, seed, index
        self._mask_words = -(-vocab_size // 32)
        penalties = (params.repetition_penalty, params.presence_penalty, params.frequency_penalty)
        self._counts_tokens = penalties != (1, 0, 0)
        self._edits = _Edits(max_edits) if self._counts_tokens or params.logit_bias or params.min_tokens else None
        self._drawn = 0
        self._plain: _core.Sampling | None = None  # the same for every draw, where nothing changes between them
        if self._edits is None:
            return
        self._forbidden = sorted(stop_ids) if params.min_tokens else []
        biased = len({*params.logit_bias, *self._forbidden})
        if biased > _core.MAX_BIASES and max_edits < vocab_size:
            raise ValueError(f"{biased} tokens have a bias, and {_core.MAX_BIASES} may; use logits_mask for more, or "
                             f"max_context={vocab_size - _core.MAX_BIASES}, with which any number is allowed")
        for token, bias in params.logit_bias.items():
            self._edits.set_bias(token, bias)
        if params.repetition_penalty != 1:
            for token in np.unique(prompt).tolist():
                self._edits.see(token)
        for token in self._forbidden:
            self._edits.set_bias(token, -math.inf)

    def next(self, completion: Ids, allowed: Sequence[int] | None) -> _core.Sampling:
        """For the token after `completion` (tokens,), one of `allowed` if that is given. Raises what logits_mask
        raises, or says what is wrong with what it returned."""
        if self._plain is not None and allowed is None:
            return self._plain
        mask = self._mask(completion)
        if allowed is not None:
            mask = self._only(allowed) if mask is None else mask & self._only(allowed)
        edits = None if self._edits is None else self._edits.arrays()
        p = self._params
        sampling = _core.Sampling(
            temperature=p.temperature, top_p=p.top_p, top_k=min(p.top_k, 2**31 - 1), min_p=p.min_p, seed=self._seed,
            index=self._index, repetition_penalty=p.repetition_penalty, presence_penalty=p.presence_penalty,
            frequency_penalty=p.frequency_penalty, logprobs=p.top_logprobs if p.logprobs else -1, edits=edits,
            mask=mask)
        if mask is None and p.logits_mask is None and edits is None:
            self._plain = sampling
        return sampling

    def ahead(self, completion: Ids) -> _core.Sampling | None:
        """For the token after the one that follows `completion`, where it is the same whatever that is; else None."""
        if self._params.logits_mask is not None or self._counts_tokens:
            return None
        if self._edits is not None and self._drawn + 1 == self._params.min_tokens:
            return None  # stop tokens are allowed from then on
        return self.next(completion, None)

    def add(self, token: int) -> None:
        """`token` is the next one of the completion."""
        self._drawn += 1
        if self._edits is None:
            return
        if self._counts_tokens:
            self._edits.count(token)
        if self._drawn == self._params.min_tokens:
            for stop in self._forbidden:
                self._edits.set_bias(stop, self._params.logit_bias.get(stop, 0.0))
            if not self._counts_tokens and not self._params.logit_bias:
                self._edits = None

    def _only(self, allowed: Sequence[int]) -> npt.NDArray[np.uint32]:
        mask = np.zeros(self._mask_words, np.uint32)
        for token in allowed:
            mask[token // 32] |= np.uint32(1 << token % 32)
        return mask

    def _mask(self, completion: Ids) -> npt.NDArray[np.uint32] | None:
        if self._params.logits_mask is None:
            return None
        shown = completion.view()
        shown.flags.writeable = False
        try:
            mask = self._params.logits_mask(shown)
        except (StopIteration, StopAsyncIteration) as error:  # out of an iterator it would say that all went well
            raise RuntimeError(f"logits_mask raised {type(error).__name__}") from error
        if mask is None:
            return None
        if not isinstance(mask, np.ndarray) or mask.dtype != np.uint32 or mask.shape != (self._mask_words,):
            came = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"logits_mask must return None or a uint32 array ({self._mask_words},), one bit for each "
                            f"token of the vocabulary; it returned {came}")
        return mask


class _Edits:
    """The tokens whose logits change: four arrays that grow in place, one entry for each token."""

    def __init__(self, most: int) -> None:
        self._most = most  # never reached: what has a penalty stands in the sequence, and biases are counted before
        self._place: dict[int, int] = {}
        self._tokens, self._seen, self._counts = (np.zeros(64, np.int32) for _ in range(3))
        self._bias = np.zeros(64, np.float32)

    def arrays(self) -> Edits:
        n = len(self._place)
        return self._tokens[:n], self._seen[:n], self._counts[:n], self._bias[:n]

    def set_bias(self, token: int, bias: float) -> None:
        place = self._find(token)  # first: it may replace the arrays
        self._bias[place] = bias

    def see(self, token: int) -> None:
        place = self._find(token)
        self._seen[place] = 1

    def count(self, token: int) -> None:
        place = self._find(token)
        self._seen[place] = 1
        self._counts[place] += 1

    def _find(self, token: int) -> int:
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._tokens):
            self._tokens, self._seen, self._counts, self._bias = (
                np.concatenate([array, np.zeros_like(array)])
                for array in (self._tokens, self._seen, self._counts, self._bias))
        assert place < self._most
        self._tokens[place] = token
        return place
