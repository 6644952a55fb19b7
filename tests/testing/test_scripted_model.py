"""The in-process fakes."""

import pytest

from rlm_ray.core.llm import Message, ModelReply, ModelRequest, Usage
from rlm_ray.errors import ModelError
from rlm_ray.testing.scripted_model import FunctionModel, ScriptedModel


def asked(text="hello, model"):
    return ModelRequest("any", (Message("user", text),))


async def test_replies_come_in_order():
    """Text is counted and free; a ready reply passes as it is; an exception is raised."""
    cut = ModelReply("cut", finish_reason="length")
    model = ScriptedModel(["four", cut, ModelError("any", "broken", 500)])
    assert await model.complete(asked()) == ModelReply("four", usage=Usage(3, 1), cost_usd=0.0)
    assert await model.complete(asked()) is cut
    assert model.remaining == 1
    with pytest.raises(ModelError, match="broken"):
        await model.complete(asked())
    assert len(model.requests) == 3


async def test_a_script_that_is_too_short_says_what_it_was_asked():
    """Running out of replies shows the request that had none."""
    model = ScriptedModel([])
    with pytest.raises(AssertionError, match="request 1 ends with: 'and now'"):
        await model.complete(asked("and now"))


async def test_a_function_answers():
    """A function sees the request and may say anything a script may."""
    model = FunctionModel(lambda request: request.messages[-1].content.upper())
    assert (await model.complete(asked("abc"))).text == "ABC"
    assert model.requests == (asked("abc"),)
