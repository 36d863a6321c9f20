"""What the server says about itself: models, health, metrics, the interface."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gatewise.serving.catalog import Catalog
from gatewise.serving.engine import Engine
from gatewise.serving.metrics import Metrics
from gatewise.serving.openapi import document
from gatewise.serving.refusals import Refusal


class AboutRoutes:
    """The routes that say something and change nothing.

    Args:
        catalog, engine, metrics: those of the server.
    """

    def __init__(self, catalog: Catalog, engine: Engine, metrics: Metrics) -> None:
        self._catalog, self._engine, self._metrics = catalog, engine, metrics

    async def models(self, request: Request) -> Response:
        """List the models."""
        return JSONResponse({"object": "list", "data": [served.as_json() for served in self._catalog]})

    async def model(self, request: Request) -> Response:
        """Say what a model is."""
        return JSONResponse(self._catalog.named(request.path_params["name"]).as_json())

    async def health(self, request: Request) -> Response:
        """Say that the process and its engine live."""
        if not self._engine.is_alive():
            raise Refusal(500, "the engine has ended; restart the server")
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Say whether new work is taken."""
        self._engine.check_open()
        return JSONResponse({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """Return the metrics in the format of Prometheus."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        return JSONResponse(document())
