"""The model as an object: loading it, and what can be asked of it.

The scheduler, in the order in which it reads best:

request     what a caller asks of the driver, and what both hold of it while it runs
step        step(sequences, token_budget): who computes how many tokens, and what came of it
sequence    one sequence: its session, its checkpoints, how far it has come
tasks       what a sequence is for: drawing tokens, or the logits of given rows
driver      the one thread: joining, leaving, failing, making room
scheduler   the door to that thread
channel     the way back to the caller; stream and chat_stream are its ends, transcript and turn read what comes

Around it: sampling (the options by name), drawing (what the native stage takes of them), stops (stop texts), planning
(memory), metrics, loading, engine (what users see).
"""

from gptoss_native.engine.engine import Engine
from gptoss_native.engine.loading import load

__all__ = ["Engine", "load"]
