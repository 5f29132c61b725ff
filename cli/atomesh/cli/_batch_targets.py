"""Whom a batch's lines go to: found by name, once each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

if TYPE_CHECKING:
    from atomesh.balancer import Client
    from atomesh.cli._settings import Settings
    from atomesh.pipelines.batch import Executor


@dataclass(frozen=True, slots=True)
class Found:
    """A target, what it takes, and whether it may run twice."""

    executor: Executor
    target: Any
    input: type[Message]
    idempotent: bool


class Targets:
    """Those of one batch."""

    def __init__(self, mesh: Client, settings: Settings) -> None:
        """None is known yet."""
        self._mesh = mesh
        self._settings = settings
        self._found: dict[str, Found] = {}

    async def find(self, name: str) -> Found:
        """The target of that name.

        Raises:
            CliError: there is none.
            RegistryUnavailable: nobody can tell.
        """
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = await self._agent(name)
        return found

    async def _agent(self, name: str) -> Found:
        from atomesh.cli.call import contract_of
        from atomesh.pipelines.batch import MeshExecutor

        contract = await contract_of(self._mesh, name, [], self._settings)
        endpoints = self._mesh.endpoints(name)
        twice = bool(endpoints) and all(endpoint.idempotent for endpoint in endpoints)
        return Found(MeshExecutor(self._mesh), contract, contract.input, twice)
