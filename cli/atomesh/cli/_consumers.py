"""Who uses an agent, as far as that is known: pipelines that are stored here, and those that are served now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from atomesh.cli._output import note
from atomesh.core.errors import AtomeshError

if TYPE_CHECKING:
    from atomesh.balancer import Client
    from atomesh.cli._settings import Settings
    from atomesh.core.evolution import Consumer
    from atomesh.pipelines.assembly.gather import RegistryFinder

ANSWER_SECONDS = 2.0
"""For a process to say what it serves; one that does not answer is told of and left out."""


async def consumers_of(agent: str, settings: Settings) -> list[Consumer]:
    """The pipelines that use the agent, each once; those that cannot be looked at are told of on stderr."""
    from atomesh.cli.call import open_client
    from atomesh.pipelines.assembly.gather import RegistryFinder

    texts = {**await _stored(settings), **await _served(settings)}
    found: list[Consumer] = []
    async with (
        open_client(settings, []) as mesh,
        RegistryFinder(settings.mesh.registry, settings.credentials.load()) as finder,
    ):
        for name, text in sorted(texts.items()):
            try:
                consumer = await _consumer(name, text, agent, mesh, finder)
            except AtomeshError as error:
                note(f"pipeline {name} was not looked at: {error.message}")
                continue
            found += [consumer] if consumer is not None else []
    return found


async def _consumer(name: str, text: str, agent: str, mesh: Client, finder: RegistryFinder) -> Consumer | None:
    from atomesh.pipelines import read_pipeline
    from atomesh.pipelines.binding import bind
    from atomesh.pipelines.consumers import consumer
    from atomesh.pipelines.plan import wants

    spec, _ = read_pipeline(text, name)
    wanted = wants(spec)
    if not any(want.agent == agent or want.capability for want in wanted):
        return None
    bound = await bind(mesh, spec, choose=finder.choose)
    return consumer(spec, bound, agent) if any(each.agent == agent for each in bound.values()) else None


async def _stored(settings: Settings) -> dict[str, str]:
    from atomesh.cli._pipelines import opened_store

    async with opened_store(settings) as store:
        return {pipeline.name: pipeline.text for pipeline in await store.list_pipelines()}


async def _served(settings: Settings) -> dict[str, str]:
    """The pipelines that registered processes serve, by asking each process."""
    from atomesh.core import ALL_STATES, Selector
    from atomesh.pipelines.agent import PIPELINE_LABEL
    from atomesh.rpc import RegistryClient

    async with RegistryClient(settings.mesh.registry, settings.credentials.load()) as client:
        endpoints = (await client.discover(Selector(states=ALL_STATES))).endpoints
    pipelines = {e.agent: e.address for e in endpoints if PIPELINE_LABEL in e.labels}
    texts = await asyncio.gather(*(_text(name, address, settings) for name, address in pipelines.items()))
    return {name: text for name, text in zip(pipelines, texts, strict=True) if text}


async def _text(name: str, address: str, settings: Settings) -> str:
    from atomesh.cli.runs import ask
    from atomesh.v1 import pipeline_pb2

    request = pipeline_pb2.GetPipelineRequest(name=name)
    try:
        answer = await ask(address, "GetPipeline", request, settings.credentials.load(), within=ANSWER_SECONDS)
    except AtomeshError as error:
        note(f"pipeline {name} at {address} was not looked at: {error.message}")
        return ""
    return str(answer.pipeline.text)
