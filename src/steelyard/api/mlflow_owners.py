"""Whose a run or an experiment of MLflow is. What MLflow once said of an id stays true, so it is kept."""

from collections import OrderedDict
from typing import Any

import httpx

from steelyard.kit.errors import NotFound, Unavailable

_MOST = 4096
_UNAVAILABLE = "MLflow doesn't answer; it takes half a minute to start, and training goes on without it"


class MlflowOwners:
    """Asks MLflow which experiment a run is in, and what an experiment is called: as its project.

    Args:
        client: reaches MLflow; its owner closes it.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._known: OrderedDict[str, str] = OrderedDict()

    async def project_of_run(self, run_id: str) -> str:
        """Return the name of a run's experiment.

        Raises:
            NotFound: MLflow has no such run.
            Unavailable: it doesn't answer.
        """
        found = await self._ask(
            f"run/{run_id}", "runs/get", {"run_id": run_id}, ("run", "info", "experiment_id")
        )
        return await self.project_of_experiment(found)

    async def project_of_experiment(self, experiment_id: str) -> str:
        """Return the name of an experiment. Raises as `project_of_run`."""
        return await self._ask(
            f"experiment/{experiment_id}",
            "experiments/get",
            {"experiment_id": experiment_id},
            ("experiment", "name"),
        )

    async def _ask(self, key: str, path: str, query: dict[str, str], keys: tuple[str, ...]) -> str:
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        try:
            answer = await self._client.get(f"/mlflow/api/2.0/mlflow/{path}", params=query)
        except httpx.TransportError as error:
            raise Unavailable(_UNAVAILABLE) from error
        if answer.status_code >= 500:
            raise Unavailable(_UNAVAILABLE)
        if not answer.is_success:
            raise NotFound(f"MLflow has no {key.replace('/', ' ')!r}, or none of yours")
        found: Any = answer.json()
        for name in keys:
            found = found[name]
        self._known[key] = str(found)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return self._known[key]
