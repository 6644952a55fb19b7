"""`/v1/models`, `/healthz`, `/readyz`, `/v1/usage`."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from rlm_ray.serve.api_keys import ApiKey
from rlm_ray.serve.http.auth import BearerAuth
from rlm_ray.serve.http.errors import ApiError, error_responses
from rlm_ray.serve.http.run_service import RunService


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "rlm_ray"
    max_depth: int
    recursive_model: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class KeyUsage(BaseModel):
    """What a key has spent since it was made; runs under way are not in it."""

    key: str
    runs: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    budget_usd: float | None


class Health(BaseModel):
    status: Literal["ok"] = "ok"


def model_routes(service: RunService, auth: BearerAuth) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/models", tags=["models"], responses=error_responses())
    async def models(key: Annotated[ApiKey, Depends(auth)]) -> ModelList:
        """List the models this key may use. A pattern of models cannot be listed."""
        return ModelList(data=[_model(service, name) for name in service.models.ids() if key.may_use(name)])

    @router.get("/v1/models/{model:path}", tags=["models"], responses=error_responses(404))
    async def model(model: str, key: Annotated[ApiKey, Depends(auth)]) -> Model:
        """Return one model."""
        if service.models.settings(model) is None or not key.may_use(model):
            raise ApiError(404, "model_not_found", "the model is not served here", param="model")
        return _model(service, model)

    @router.get("/v1/usage", tags=["usage"], responses=error_responses())
    async def usage(key: Annotated[ApiKey, Depends(auth)]) -> KeyUsage:
        """Return what this key has spent."""
        spent = await service.registry.spent(key.name)
        return KeyUsage(
            key=key.name, runs=spent.runs, input_tokens=spent.input_tokens, output_tokens=spent.output_tokens,
            cost_usd=spent.cost_usd, budget_usd=key.budget_usd,
        )  # fmt: skip

    @router.get("/healthz", tags=["health"])
    async def healthy() -> Health:
        """Tell that this replica is alive."""
        return Health()

    @router.get("/readyz", tags=["health"], responses={503: error_responses()[503]})
    async def ready() -> Health:
        """Tell that this replica can start runs: the run registry and the run store answer."""
        await service.registry.spent("")
        return Health()

    return router


def _model(service: RunService, name: str) -> Model:
    settings = service.models.settings(name)
    assert settings is not None
    return Model(
        id=name, max_depth=settings.max_depth, recursive_model=settings.recursive_model or settings.model
    )
