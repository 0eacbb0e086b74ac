"""One turn of a conversation. In the order in which it reads best:

chat        the generations of a turn, and the results of tools in between
turn        one generation: tokens in, events out, up to a stop text
thinking    reasoning, governed: budgets, and loops
tool_calls  running the tools that are Python functions
stream      all of it as an iterator of events, for threads and coroutines; reply is what is left at the end
"""
