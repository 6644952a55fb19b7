"""Models of the user's own names, and models that are asked where another one is down or sends nothing."""

from __future__ import annotations

import pytest
from run_lives import Life

from rlm_ray.config import (
    ModelChoice,
    Settings,
    SettingValue,
    load_settings,
    settings_from_dict,
    settings_to_dict,
)
from rlm_ray.core.llm import Message, ModelReply, ModelRequest, Usage
from rlm_ray.core.output_limit import OutputLimit
from rlm_ray.errors import (
    AuthenticationError,
    ConfigError,
    ContextWindowError,
    LimitReached,
    ModelError,
    ModelUnavailableError,
    QuotaError,
    ReplyError,
    TransientModelError,
)
from rlm_ray.events.records import CallEnded
from rlm_ray.journal.call_recorder import CallSite
from rlm_ray.llm.gateway import Gateway, may_fall_back
from rlm_ray.llm.run_context import RunContext
from rlm_ray.testing.scripted_model import FunctionModel

ERRORS = {
    "down": ModelUnavailableError("a", "gave up"),
    "empty": ReplyError("a", "empty", kind="empty"),
    "filtered": ReplyError("a", "filtered", kind="filtered"),
    "refused": ReplyError("a", "refused", kind="refused"),
    "tool": ReplyError("a", "a tool call", kind="tool_call"),
    "key": AuthenticationError("a", "wrong key", 401),
    "account": QuotaError("a", "nothing left", 429),
    "window": ContextWindowError("a", "too long", 400),
    "bad request": ModelError("a", "bad request", 400),
}


@pytest.mark.parametrize("name", ERRORS)
def test_only_a_provider_that_is_down_or_empty_falls_back(name):
    assert may_fall_back(ERRORS[name]) == (name in {"down", "empty"})


class Provider(FunctionModel):
    """Model `a` does what the test says, all others answer."""

    def __init__(self, of_a):
        super().__init__(self._answer)
        self._of_a = of_a

    def _answer(self, request):
        if request.model == "a":
            return self._of_a() if callable(self._of_a) else self._of_a
        return ModelReply(f"I am {request.model}", usage=Usage(10, 5))

    def cost_usd(self, model, usage):
        return {"a": 1.0, "b": 0.25, "c": 0.5}[model]

    def output_limit(self, model):
        return OutputLimit()

    def provider_name(self, model):
        return f"provider of {model}"

    @property
    def asked(self):
        return [request.model for request in self.requests]


class Call:
    """Calls to model `a` with the fallbacks `b` and `c`, over a journal in memory."""

    def __init__(self, of_a, fallbacks=("b", "c")):
        self.life = Life()
        self.provider = Provider(of_a)
        self.now = 0.0
        self.settings = Settings(max_attempts=2, fallbacks=fallbacks)

    async def ask(self, role="leaf", number=1, data=b""):

        from rlm_ray.journal.recorder import JournalRecorder
        from rlm_ray.journal.server import JournalRef

        async def no_sleep(_):
            return None

        life = self.life
        await life.shell.open_run(policy())
        recorder = JournalRecorder(JournalRef("", "run", "w", ""), life, f"w{number}")
        await recorder.load_history()
        if not hasattr(self, "gateway"):
            self.gateway = Gateway(self.provider, life.client, sleep=no_sleep, clock=lambda: self.now)
        run = RunContext("run", self.settings)
        request = ModelRequest("a", (Message("user", "q"),))
        try:
            return await self.gateway.complete(request, run, CallSite((0,), number, role), recorder)
        finally:
            await recorder.flush()
            await life.client.flush()

    @property
    def ends(self):
        return [record for record in self.life.records if isinstance(record, CallEnded)]


def policy():
    from rlm_ray.admission.protocol import RunPolicy

    return RunPolicy("run")


DOWN = TransientModelError("a", "no server", 500, "server_error")
EMPTY = ModelReply("", usage=Usage(10, 0))


@pytest.mark.parametrize(("of_a", "kind"), [(DOWN, "ModelUnavailableError"), (EMPTY, "ReplyError")])
@pytest.mark.parametrize("role", ["leaf", "turn", "last", "direct"])
async def test_fallback_answers_after_the_retries_and_is_on_record(of_a, kind, role):
    call = Call(of_a)
    reply = await call.ask(role)
    assert reply.text == "I am b"
    assert call.provider.asked == ["a", "a", "b"]
    failed, answered = call.ends
    assert (failed.model, failed.error_kind, failed.fallback_from) == ("a", kind, "")
    assert (answered.model, answered.fallback_from, answered.cost_usd) == ("b", "a", 0.25)
    assert answered.key == failed.key


async def test_usage_counts_each_model_for_itself():
    call = Call(EMPTY)
    await call.ask()
    usage = await call.life.shell.usage("run")
    assert {model: (sums.calls, sums.cost_usd) for model, sums in usage.by_model.items()} == {
        "a": (2, 2.0),
        "b": (1, 0.25),
    }


async def test_reply_of_a_fallback_is_replayed_for_nothing():
    call = Call(DOWN)
    await call.ask()
    before = len(call.provider.requests)
    again = await call.ask()
    assert (again.text, again.recorded) == ("I am b", True)
    assert len(call.provider.requests) == before


async def test_provider_that_was_given_up_is_not_asked_for_a_minute():
    call = Call(DOWN)
    await call.ask(number=1)
    await call.ask(number=2)
    assert call.provider.asked == ["a", "a", "b", "b"]
    call.now = 61.0
    await call.ask(number=3)
    assert call.provider.asked[4:] == ["a", "a", "b"]


@pytest.mark.parametrize("name", ["key", "account", "window", "bad request", "filtered"])
async def test_what_a_user_has_to_know_does_not_fall_back(name):
    error = ERRORS[name]
    call = Call(ModelReply("x", "content_filter") if name == "filtered" else error)
    with pytest.raises(type(error)):
        await call.ask()
    assert set(call.provider.asked) == {"a"}


async def test_limit_of_the_run_does_not_fall_back():
    call = Call(LimitReached("cost_usd", "spent"))
    with pytest.raises(LimitReached):
        await call.ask()
    assert call.provider.asked == ["a"]


async def test_last_fallback_that_fails_gives_its_own_error():
    call = Call(DOWN, fallbacks=("a",))
    with pytest.raises(ModelUnavailableError, match="gave up after 2 attempts"):
        await call.ask()


async def test_empty_turn_of_the_last_model_is_told_to_the_model():
    call = Call(EMPTY, fallbacks=())
    assert (await call.ask("turn")).text == ""


def test_models_have_names_parameters_and_prices_of_their_own():
    settings = Settings(
        model="strong",
        recursive_model="cheap",
        models={
            "cheap": "openai/mini",
            "strong": {"model": "anthropic/big", "api_key": "sk-secret-key", "api_base": "http://x/v1"},
        },
        params={"temperature": 0.1, "api_key": "sk-of-the-run"},
        fallbacks=["cheap", "openai/other"],
        call_timeout_s=5.0,
    )
    assert settings.model_at(0) == (
        "anthropic/big",
        {"timeout": 5.0, "api_key": "sk-secret-key", "api_base": "http://x/v1"},
    )
    assert settings.model_at(1) == (
        "openai/mini",
        {"timeout": 5.0, "temperature": 0.1, "api_key": "sk-of-the-run"},
    )
    assert settings.all_models() == ["anthropic/big", "openai/mini", "openai/other"]
    table = settings_to_dict(settings)
    assert "sk-" not in str(table)
    assert settings_from_dict(table).models["cheap"] == ModelChoice("openai/mini")


def test_models_are_set_on_the_command_line_and_in_files(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text(
        '[models]\ncheap = "openai/mini"\n[models.strong]\nmodel = "openai/big"\ntemperature = 0\n'
    )
    given = [SettingValue("models.other", "openai/o"), SettingValue("fallbacks", "cheap, strong")]
    settings = load_settings(given, {}, tmp_path)
    assert settings.models == {
        "cheap": ModelChoice("openai/mini"),
        "strong": ModelChoice("openai/big", {"temperature": 0}),
        "other": ModelChoice("openai/o"),
    }
    assert settings.fallbacks == ("cheap", "strong")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"models": {"cheap": ""}}, "models.cheap"),
        ({"models": {"cheap": 3}}, "models.cheap"),
        ({"models": {"cheap": {"temperature": 1}}}, "models.cheap"),
        ({"models": {"cheap": {"model": "x", "api_key": "a\nb"}}}, "models.cheap.api_key"),
        ({"fallbacks": 3}, "fallbacks"),
        ({"fallbacks": [1]}, "fallbacks"),
    ],
)
def test_models_that_are_none_are_refused(options, what):
    with pytest.raises(ConfigError) as caught:
        Settings(**options)
    assert caught.value.what == what


def test_file_that_just_lies_there_may_not_say_where_a_named_model_goes(tmp_path):
    (tmp_path / "rlm-ray.toml").write_text(
        '[models.strong]\nmodel = "openai/big"\napi_base = "http://evil/v1"\n'
    )
    with pytest.raises(ConfigError, match=r"models\.strong"):
        load_settings([], {}, tmp_path)
