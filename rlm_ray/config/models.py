"""Which models a run calls, by which names, with which parameters and at which prices.

The parameters that litellm takes stand here by name: importing litellm to ask it takes seconds. A test compares them with the
litellm that is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlm_ray.config.coercion import from_mapping
from rlm_ray.core.display import show_changes
from rlm_ray.core.llm import Price
from rlm_ray.core.secrets import header_fault
from rlm_ray.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model that goes by a name of the user's own."""

    model: str
    """A litellm model name."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Its own litellm parameters (`api_base`, `api_key` ...), in place of those of the run; empty: those of the run."""

    def __repr__(self) -> str:
        return show_changes(self)


def parse_choice(name: str, choice: Any) -> ModelChoice:
    """Make a `ModelChoice` of the name of a model, or of a table with `model` and its parameters. Raises `ConfigError`."""
    if isinstance(choice, str):
        choice = {"model": choice}
    if isinstance(choice, Mapping):  # as it was given, or as it is on record
        inner = choice.get("params")
        table = {**choice, **inner} if isinstance(inner, Mapping) else dict(choice)
        table.pop("params", None)
        choice = ModelChoice(table.pop("model", ""), table)
    if not isinstance(choice, ModelChoice) or not isinstance(choice.model, str) or not choice.model.strip():
        why = f"must be a litellm model name, or a table with `model` and its parameters; got {choice!r}"
        raise ConfigError(f"models.{name}", why)
    check_headers(choice.params, f"models.{name}.")
    return choice


def parse_fallbacks(value: Any) -> tuple[str, ...]:
    """Return a list of names, given as one or as a text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise ConfigError("fallbacks", f"must be a list of model names; got {value!r}")
    return tuple(each.strip() for each in given if each.strip())


def parse_price(model: str, price: Any) -> Price:
    if isinstance(price, Price):
        return price
    if isinstance(price, Mapping):
        built: Price = from_mapping(Price, price, f"prices.{model}.")
        return built
    raise ConfigError(
        f"prices.{model}", f"must be Price(input_usd=..., output_usd=...) or a table; got {price!r}"
    )


def check_model(name: str, model: object) -> None:
    if not isinstance(model, str):
        raise ConfigError(name, "must be a litellm model name such as 'openai/gpt-5-mini'")
    if not model.strip():
        why = "is empty; give a litellm model name, or 'offline/extractive' to try without one"
        raise ConfigError(name, why)


def check_headers(params: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse parameters that no HTTP header can hold, before anything is sent."""
    for name in ("api_key", "extra_headers", "default_headers", "headers"):
        _check_header(prefix + name, params.get(name))


def _check_header(name: str, value: object) -> None:
    """Refuse what no HTTP header can hold, in a key or a table of headers."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            _check_header(f"{name}.{inner}", each)
    elif isinstance(value, str) and (why := header_fault(value)):
        raise ConfigError(name, why)


COMPLETION_PARAMS = (
    "api_base", "api_key", "api_version", "audio", "base_url", "default_headers", "deployment_id",
    "enable_json_schema_validation", "extra_headers", "frequency_penalty", "function_call", "functions",
    "include_server_side_tool_invocations", "logit_bias", "logprobs", "max_completion_tokens", "max_retries", "max_tokens",
    "modalities", "n", "organization", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
    "prompt_cache_retention", "reasoning_effort", "request_timeout", "response_format", "safety_identifier", "seed",
    "service_tier", "shared_session", "stop", "store", "stream", "stream_options", "temperature", "thinking", "timeout",
    "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
)  # fmt: skip
"""Of `litellm.completion`, but for what this package says itself: the model, the messages, other models to fall back on."""

LITELLM_PARAMS = (
    "additional_drop_params", "allowed_openai_params", "assistant_continue_message", "base_model", "caching", "client",
    "custom_llm_provider", "drop_params", "ensure_alternating_roles", "extra_body", "extra_query", "guardrails",
    "headers", "hf_model_name", "input_cost_per_second", "input_cost_per_token", "litellm_credential_name",
    "litellm_metadata", "litellm_session_id", "litellm_trace_id", "merge_reasoning_content_in_choices", "metadata",
    "mock_response", "mock_timeout", "num_retries", "output_cost_per_second", "output_cost_per_token", "prompt_id",
    "prompt_variables", "proxies", "roles", "ssl_verify", "stream_timeout", "supports_system_message", "tags",
    "text_completion", "use_chat_completions_api", "use_litellm_proxy", "user_continue_message",
)  # fmt: skip
"""What litellm does with a call, whoever the provider is."""

PROVIDER_PARAMS = (
    # keys and addresses of clouds
    "anthropic_disable_workload_identity_federation", "anthropic_federation_rule_id",
    "anthropic_federation_workspace_id", "anthropic_identity_source", "anthropic_identity_token",
    "anthropic_identity_token_file", "anthropic_issuer_audience", "anthropic_issuer_signing_key_ref",
    "anthropic_issuer_subject", "anthropic_issuer_ttl_seconds", "anthropic_issuer_url",
    "anthropic_keycloak_auth_method", "anthropic_keycloak_client_id", "anthropic_keycloak_client_secret_ref",
    "anthropic_keycloak_scope", "anthropic_keycloak_token_url", "anthropic_organization_id",
    "anthropic_service_account_id", "aws_access_key_id", "aws_batch_role_arn", "aws_bedrock_project_id",
    "aws_bedrock_runtime_endpoint", "aws_external_id", "aws_profile_name", "aws_region_name", "aws_role_name",
    "aws_secret_access_key", "aws_session_name", "aws_session_tags", "aws_session_token", "aws_sts_endpoint",
    "aws_web_identity_token", "azure", "azure_ad_token", "azure_ad_token_provider", "azure_password", "azure_scope",
    "azure_username", "bedrock_tags", "bucket_name", "client_id", "client_secret", "gcs_bucket_name",
    "openai_identity_provider_id", "openai_identity_token_file", "openai_service_account_id", "project_id", "region_name",
    "s3_access_key_id", "s3_bucket_name", "s3_bucket_owner", "s3_encryption_key_id", "s3_endpoint_url",
    "s3_output_bucket_name", "s3_region_name", "s3_secret_access_key", "space_id", "tenant_id", "vertex_ai_credentials",
    "vertex_ai_location", "vertex_ai_project", "vertex_credentials", "vertex_location", "vertex_project",
    "watsonx_region_name", "wx_url", "zen_api_key",
    # sampling
    "best_of", "dynamic_temperature", "ignore_eos", "length_penalty", "min_p", "min_tokens", "mirostat", "mirostat_eta",
    "mirostat_tau", "repeat_last_n", "repeat_penalty", "repetition_penalty", "stop_sequences", "stop_token_ids", "tfs_z",
    "top_a", "top_k", "top_n_sigma", "typical_p", "use_beam_search",
    # thinking
    "budget_tokens", "chat_template_kwargs", "enable_thinking", "include_reasoning", "reasoning", "reasoning_format",
    "reasoning_split", "think", "thinking_budget", "thinking_config", "thinkingConfig",
    # servers of your own: Ollama, vLLM, llama.cpp, SGLang
    "cache_prompt", "chat_template", "documents", "echo", "format", "grammar", "guided_choice", "guided_decoding_backend",
    "guided_grammar", "guided_json", "guided_regex", "json_schema", "keep_alive", "lora_path", "main_gpu",
    "num_batch", "num_ctx", "num_gpu", "num_keep", "num_predict", "num_thread", "regex", "skip_special_tokens",
    "structured_outputs", "truncate_prompt_tokens", "use_mmap",
    # what single providers offer besides
    "add_generation_prompt", "cache_control", "cached_content", "candidate_count", "citations", "connectors",
    "context_management", "grounding", "guardrailConfig", "inferenceConfig", "labels", "max_output_tokens",
    "performanceConfig", "plugins", "provider", "provider_options", "random_seed", "request_metadata", "requestMetadata",
    "response_mime_type", "response_schema", "return_citations", "return_images", "return_related_questions", "route",
    "safe_prompt", "safety_mode", "safety_settings", "search_domain_filter", "search_parameters",
    "search_recency_filter", "transforms", "usage", "web_search",
)  # fmt: skip
"""What single providers and servers take besides."""

KNOWN_PARAMS = frozenset((*COMPLETION_PARAMS, *LITELLM_PARAMS, *PROVIDER_PARAMS))
"""Keywords of `RLM` that are no settings and go to litellm; any other parameter is given in `params`."""
