"""The house rules of every test here: a loop of its own, and nothing left behind.

`async def` tests run on a fresh event loop each; marked `virtual_time`, or
asking for the fixture `virtual_clock`, on one whose time jumps (see
`atomesh.testing.loop`). After every test the tasks, threads, child processes
and gRPC channels that it leaves are counted, and any is a failure; so is an
exception that only the loop's handler got to see. With `--connection-age
SECONDS` agents ask for new connections at that age, in this process and in those
that it starts, where a test does not say otherwise. Where a test cannot do
without a tool of the machine, `@pytest.mark.needs_tool("promtool")` skips it
with one line, or fails it where `CI=true`: there nothing may be missing but
what .ci/run names in `CI_WITHOUT`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from atomesh.agents.settings import ServerOptions, split_options
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.testing import (
    ChannelLog,
    LeakCheck,
    VirtualClock,
    VirtualTimeLoop,
    adopt_orphans,
    leftover_tasks,
)

_GRPC_ENDS = 0.005
"""Seconds. Of 20 tests that end with a watch of a channel cut off, 20 left its end
to the next without them, none with; three seconds for the whole suite."""

_LOOK = 0.005
"""Seconds between two looks at how late the machine is; what is less than twice that is not."""

ROOT = Path(__file__).resolve().parent.parent
CHANNELS = ChannelLog()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--connection-age", type=float, help="max_connection_age of agents, in seconds (see conftest.py)")


def pytest_configure(config: pytest.Config) -> None:
    if (age := config.getoption("--connection-age")) is not None:
        _age_connections(age)
    for marker in (
        "virtual_time: an async test runs on a loop whose time jumps to the next timer",
        "needs_tool(name, ...): skipped where a tool of the machine is missing, failed there in CI",
        "allow_leaks(reason): no leak check; for tests of what cannot clean up after itself",
    ):
        config.addinivalue_line("markers", marker)
    # Tools of the environment (buf) and those that .ci/run fetched (grpcurl).
    own = [str(Path(sys.executable).parent), str(ROOT / ".cache" / "bin")]
    # Debian keeps PostgreSQL's programs out of the way, the newest first here.
    debians = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    os.environ["PATH"] = os.pathsep.join([*own, os.environ.get("PATH", ""), *debians])
    # A script that runs the tests in its background has them ignore Ctrl-C, and with
    # them each process that they start, which some tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    adopt_orphans()
    CHANNELS.attach()


def _age_connections(age: float) -> None:
    """Sets a default for AgentServer, which reads no environment, and for `atomesh serve`, which does."""
    os.environ["ATOMESH_SERVE_MAX_CONNECTION_AGE"] = f"{age:g}"

    def aged(options: ServerOptions) -> Any:
        return split_options({"max_connection_age": age, **options})

    pytest.MonkeyPatch().setattr("atomesh.agents.server.split_options", aged)


def pytest_collection_finish(session: pytest.Session) -> None:
    # What imports made lives to the end: out of the collector's sight, one
    # collection per test takes a millisecond instead of fifty.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs_tool"):
        for tool in marker.args:
            if shutil.which(tool) is None:
                _missing(tool)


def _missing(tool: str) -> None:
    if os.environ.get("CI") == "true" and tool not in os.environ.get("CI_WITHOUT", "").split():
        pytest.fail(f"needs {tool}, and with CI=true nothing may be missing; .ci/run installs it", pytrace=False)
    pytest.skip(f"needs {tool}, which is not installed here; .ci/run shows how it is")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    yield
    # Coroutines never awaited and files never closed speak up when they are
    # collected: now, in the test that made them, not in a later one.
    gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    yield
    # What a file of tests imported late, and caches keep, lives to the end as well.
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test: Callable[..., Any] = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    virtual = pyfuncitem.get_closest_marker("virtual_time") or "virtual_clock" in pyfuncitem.fixturenames
    may_leak = pyfuncitem.get_closest_marker("allow_leaks") is not None
    _run(test(**arguments), virtual=bool(virtual), may_leak=may_leak)
    return True


def _run(main: Coroutine[Any, Any, None], *, virtual: bool, may_leak: bool) -> None:
    unseen: list[str] = []

    async def watched() -> list[str]:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: unseen.append(_complaint(about)))
        channels = CHANNELS.made
        try:
            await main
        finally:
            if CHANNELS.made > channels and not virtual:
                await _grpc_has_told()
        return await leftover_tasks(real_time=not virtual)

    factory = VirtualTimeLoop if virtual else asyncio.SelectorEventLoop
    with asyncio.Runner(debug=False, loop_factory=factory) as runner:
        left = [] if (found := runner.run(watched())) and may_leak else found
    assert not left, _listed("a test must end the tasks that it starts", left)
    assert not unseen, _listed("no exception may end in the loop's handler", unseen)


async def _grpc_has_told() -> None:
    """Returns once gRPC has told this loop of the end of what the test cancelled.

    grpc.aio has one completion queue per process and wants one loop (its issue
    25364); every test here has its own. `close()` returns before gRPC's threads
    have ended the calls and the watch of the channel's state that it cuts off;
    what they say after the loop is closed they would say to the next test's,
    as an exception in `PollerCompletionQueue._handle_events`. They take about a
    millisecond; the end of a watch of our own comes through the queue after it.
    """
    await SYSTEM_CLOCK.sleep(_GRPC_ENDS)
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    told = asyncio.ensure_future(channel.wait_for_state_change(channel.get_state()))
    await asyncio.sleep(0)  # noqa: TID251 # a turn of the loop, in which the watch begins
    await channel.close()
    await told


def _complaint(about: dict[str, Any]) -> str:
    error = about.get("exception")
    return f"{about.get('message')}: {error!r}" if error is not None else str(about.get("message"))


def _listed(rule: str, found: list[str]) -> str:
    return "\n  - ".join([f"{rule}:", *found])


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves threads, child processes or open channels."""
    check = LeakCheck(CHANNELS)
    yield
    left = check.leaks()
    if left and request.node.get_closest_marker("allow_leaks") is None:
        pytest.fail(_listed("a test must leave nothing behind", left), pytrace=False)


@pytest.fixture
def within() -> Callable[[float], AbstractAsyncContextManager[None]]:
    """`async with within(0.1):`, the block takes so many seconds at most in which the test's loop keeps up.

    Time in which this process got no CPU does not count: it says something of
    the machine. A timer that is too long says something of the code.
    """
    return _within


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    begun = seen = SYSTEM_CLOCK.now()
    late = 0.0

    def look() -> float:
        nonlocal late, seen
        now = SYSTEM_CLOCK.now()
        late += max(0.0, now - seen - 2 * _LOOK)
        seen = now
        return now

    async def looks() -> None:
        while True:
            await SYSTEM_CLOCK.sleep(_LOOK)
            look()

    looking = asyncio.create_task(looks(), name="looks how late the machine is")
    try:
        yield
        took = look() - begun
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert took - late < seconds, f"it took {took:.3f} s, of which the machine was late {late:.3f} s"


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """The clock of the test's own virtual-time loop; asking for it puts the test on one."""
    return VirtualClock()
