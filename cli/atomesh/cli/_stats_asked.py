"""Asks a mesh for its metrics over HTTP: the registry for its own and for its targets, then every target.

What comes is from strangers: an agent registers any address as that of its
metrics. So nothing is followed, no proxy is asked, and time, size and
connections at once are bounded.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from atomesh.cli._errors import CliError, ExitCode
from atomesh.cli._stats_sums import AgentSums, RegistrySums, Scrape, agent_sums, registry_sums

AT_ONCE = 32
"""Targets asked at once: a thousand of them take a second; half would be two,
and twice are sockets for nothing where one core parses what comes."""

LARGEST_PAGE = 8 * 2**20
"""Bytes of one page of metrics, some 60,000 series. What is larger is no agent's."""

LARGEST_LIST = 64 * 2**20
"""Bytes of the list of targets: those of 200,000 processes."""

_PLAIN = {"accept": "text/plain", "accept-encoding": "identity"}
"""Nothing packed: a few bytes could unpack to any size."""

_META = "__meta_atomesh_"


class _NotAnswered(Exception):
    """An address was asked in vain; the message says why, in a few words."""


class _NotWarm(_NotAnswered):
    """It is a registry, and holds its answers for now."""


@dataclass(frozen=True, slots=True)
class Unasked:
    """A target that told nothing."""

    address: str
    agents: str
    """As the registry knows them, with commas."""
    reason: str


@dataclass(slots=True)
class Heard:
    """What a mesh told."""

    registry: RegistrySums
    pages: list[dict[str, AgentSums]] = field(default_factory=list)
    unasked: list[Unasked] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Target:
    address: str
    agents: str


async def ask_mesh(address: str, timeout: float) -> Heard:
    """What the registry with this HTTP address and all its targets tell, each within `timeout` seconds.

    Raises:
        CliError: no registry answers there.
    """
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits, timeout=timeout) as client:
        heard, targets = await _registry(client, address, timeout)
        free = asyncio.Semaphore(AT_ONCE)

        async def one(target: _Target) -> None:
            async with free:
                try:
                    text = await _get(client, target.address, "/metrics", LARGEST_PAGE, timeout)
                    heard.pages.append(agent_sums(Scrape(text)))
                except _NotAnswered as why:
                    heard.unasked.append(Unasked(target.address, target.agents, str(why)))
                except ValueError:
                    heard.unasked.append(Unasked(target.address, target.agents, "its page is no page of metrics"))

        async with asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(one(target))
    heard.unasked.sort(key=lambda unasked: unasked.address)
    return heard


async def _registry(client: httpx.AsyncClient, address: str, timeout: float) -> tuple[Heard, list[_Target]]:
    name_it = "name the HTTP address of the registry with --registry-http"
    try:
        listed = await _get(client, address, "/prometheus/targets", LARGEST_LIST, timeout)
        own = await _get(client, address, "/metrics", LARGEST_PAGE, timeout)
    except _NotWarm as why:
        raise CliError(f"the registry at {address} holds its answers: {why}", ExitCode.UNAVAILABLE) from None
    except _NotAnswered as why:
        raise CliError(f"no registry tells its metrics at {address}: {why}; {name_it}", ExitCode.UNAVAILABLE) from None
    try:
        return Heard(registry_sums(Scrape(own))), _targets(json.loads(listed))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CliError(f"{address} answers, but not as a registry does; {name_it}", ExitCode.UNAVAILABLE) from None


def _targets(groups: Any) -> list[_Target]:
    """The agents' processes among the targets; the registry is one as well."""
    found = []
    for group in groups:
        labels = group["labels"]
        if labels[f"{_META}role"] == "agent":
            found += [_Target(str(address), str(labels.get(f"{_META}agent", ""))) for address in group["targets"]]
    return found


async def _get(client: httpx.AsyncClient, address: str, path: str, largest: int, timeout: float) -> str:
    """The text of a page.

    Raises:
        _NotAnswered: there is none.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(timeout), client.stream("GET", f"http://{address}{path}", headers=_PLAIN) as answer:
            if answer.status_code != httpx.codes.OK:
                raise _refused(answer, path)
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > largest:
                    raise _NotAnswered(f"{path} is larger than {largest // 2**20} MiB")
    except (TimeoutError, httpx.TimeoutException):
        raise _NotAnswered(f"no answer within {timeout:g} s") from None
    except httpx.ConnectError:
        raise _NotAnswered("nothing listens there, or it cannot be reached") from None
    except (httpx.HTTPError, httpx.InvalidURL):
        raise _NotAnswered("what answers does not speak HTTP") from None
    return body.decode("utf-8", "replace")


def _refused(answer: httpx.Response, path: str) -> _NotAnswered:
    """Why a page is not given; a registry that is not warm yet says when to come again."""
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "retry-after" in answer.headers:
        return _NotWarm(f"it is not warm yet; ask again in {answer.headers['retry-after'][:8]} s")
    return _NotAnswered(f"{answer.status_code} for {path}")
