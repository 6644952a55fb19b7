"""What of a driver's environment its actors get."""

from __future__ import annotations

import os

import pytest

from rlm_ray.cluster.environment import provider_environment, storage_environment, take_storage_environment

WAY = (
    "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_VERIFY", "SSL_CERTIFICATE",
)  # fmt: skip
STORAGES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_PROFILE", "FSSPEC_S3_KEY",
    "FSSPEC_S3_ENDPOINT_URL", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_CONNECTION_STRING", "GCSFS_TOKEN",
)  # fmt: skip
PROVIDERS = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "MISTRAL_API_KEY",
    "SOME_NEW_API_KEY",
    "AZURE_API_VERSION",
    "HF_TOKEN",
)
OTHERS = (
    "PATH",
    "HOME",
    "PYTHONPATH",
    "LD_PRELOAD",
    "RAY_ADDRESS",
    "PROXY",
    "SSL",
    "GITHUB_TOKEN",
    "DATABASE_URL",
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (*WAY, *STORAGES, *PROVIDERS, *OTHERS):
        monkeypatch.setenv(name, "x")


def test_a_session_actor_gets_the_keys_and_the_way_to_providers_and_storages():
    assert {*WAY, *STORAGES, *PROVIDERS} <= provider_environment().keys()
    assert not {*OTHERS} & provider_environment().keys()


def test_the_journal_gets_no_key_of_a_provider():
    assert {*WAY, *STORAGES} <= storage_environment().keys()
    assert not {*PROVIDERS, *OTHERS} - {"AZURE_API_VERSION"} & storage_environment().keys()


def test_fsspec_uses_what_it_is_given_later(monkeypatch):
    import fsspec

    monkeypatch.setattr(fsspec.config, "conf", {})
    monkeypatch.delenv("FSSPEC_S3_KEY")
    take_storage_environment({"FSSPEC_S3_KEY": "given"})
    assert os.environ["FSSPEC_S3_KEY"] == "given"
    assert fsspec.config.conf["s3"]["key"] == "given"
    monkeypatch.delenv("FSSPEC_S3_KEY")
