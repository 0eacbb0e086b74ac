"""Many sequences, one engine. In the order in which it reads best:

request     what a caller asks of the driver, and what both hold of it while it runs
step        begin(sequences, token_budget): who computes how many tokens, and what came of it; begin_ahead()
sequence    one sequence: its session, its checkpoints, how far it has come
tasks       what a sequence is for: drawing tokens, or the logits of given rows
driver      the one thread: joining, leaving, failing, making room
scheduler   the door to that thread; metrics is what it says of its work
channel     the way back to the caller; stream is its end, transcript and results are what it makes of what comes
"""
