"""How many questions a model answers right: by one direct call, by our RLM, by other RLMs, by map-reduce.

Tasks are generated with a fixed seed over real text, so each has an exact truth. All methods ask one address on
loopback (`endpoint.py`), which asks the model: calls, tokens and cost are counted there, the same way for everybody.
"""
