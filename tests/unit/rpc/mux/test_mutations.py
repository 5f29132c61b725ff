"""Defects planted in the mux's state machines, and who finds each: random worlds, or a test of one rule.

A row is a line of the source, what it becomes, and its finder. A row whose line
is not there any more says so: plant it where the line went, or drop it with the
line. `conftest.World` is what the worlds are made of.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import itertools
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ORDER = (
    "atomesh.rpc.mux.deadlines",
    "atomesh.rpc.mux.parts",
    "atomesh.rpc.mux.slots",
    "atomesh.rpc.mux.client_end",
    "atomesh.rpc.mux.server_end",
    "atomesh.agents.demands",
    "atomesh.agents.admission",
)
DEADLINES, PARTS, _, CLIENT, SERVER, DEMANDS, ADMISSION = ORDER
WORLDS = "worlds"
HERE = Path(__file__).parent

MUTATIONS: dict[str, tuple[str, str, str, str]] = {
    # what the client says
    "a grant that is used is still held": (CLIENT, "            self.holding -= 1", "            pass", WORLDS),
    "a call claims a grant that it has not": (
        CLIENT,
        "if granted and self.holding:",
        "if granted or self.holding:",
        "test_client_end.test_a_grant_is_used_by_one_call_and_no_other_claims_to",
    ),
    "a grant given back is not said": (
        CLIENT,
        "        self._returned += grants",
        "        pass",
        "test_client_end.test_a_grant_that_is_not_needed_is_given_back",
    ),
    "a granted call that is cancelled keeps its grant": (
        CLIENT,
        "            self._returned += 1",
        "            pass",
        "test_client_end.test_a_granted_call_that_is_cancelled_before_it_was_sent_gives_its_grant_back",
    ),
    "grants received are no part of the demand": (
        CLIENT,
        "return self._parked + self._grants - self._rejects",
        "return self._parked - self._rejects",
        "test_client_end.test_demand_is_what_waits_and_grants_less_rejects_and_is_said_when_it_changes",
    ),
    "rejects are no part of the demand": (
        CLIENT,
        "return self._parked + self._grants - self._rejects",
        "return self._parked + self._grants",
        "test_client_end.test_demand_is_what_waits_and_grants_less_rejects_and_is_said_when_it_changes",
    ),
    "rejects of cancelled calls do not count": (
        CLIENT,
        "self._rejects += len(frame.rejects)",
        "self._rejects += sum(id in self.calls for id in frame.rejects)",
        "test_client_end.test_rejects_of_calls_that_nobody_waits_for_are_no_demands",
    ),
    "an id is used again": (CLIENT, "self._next_id = id + 1", "self._next_id = id % 3 + 1", WORLDS),
    "a cancelled call is sent": (
        CLIENT,
        "if sent.id not in self.calls:",
        "if False:",
        "test_client_end.test_who_is_cancelled_before_being_sent_is_never_sent",
    ),
    "a cancel is not sent": (
        CLIENT,
        "            self._cancels.append(sent.id)",
        "            pass",
        "test_client_end.test_who_is_cancelled_later_is_cancelled_there_once_and_what_comes_for_it_is_dropped",
    ),
    "a call counts as sent before it is": (
        CLIENT,
        "self.on_wire = False",
        "self.on_wire = True",
        WORLDS,
    ),
    "who does not answer is waited for in a loop": (
        CLIENT,
        "if self._wanted and self._heard_at is not None and not self._silent:",
        "if self._wanted and self._heard_at is not None:",
        WORLDS,
    ),
    # what the endpoint makes of it
    "an execution that left still counts": (SERVER, "        self.claim.running -= 1", "        pass", WORLDS),
    "a reject is no demand": (
        SERVER,
        "            self._rejects += 1",
        "            pass",
        "test_server_end.test_a_reject_is_a_demand_until_the_client_says_otherwise",
    ),
    "a last grant is not told": (
        SERVER,
        "if claim.granted != self._told:",
        "if claim.granted > self._told + 1:",
        "test_server_end.test_a_grant_given_back_goes_to_whoever_is_next",
    ),
    "grants made are not taken off the demand": (
        SERVER,
        "self._demand + self._rejects - claim.granted",
        "self._demand + self._rejects",
        WORLDS,
    ),
    "a stream that ends keeps its demands and grants": (
        SERVER,
        "        self._slots.gone(self.claim, now)",
        "        pass",
        "test_server_end.test_a_stream_that_ends_gives_its_demands_grants_and_half_sent_calls_back_at_once",
    ),
    "a stream that ends keeps its half-sent calls": (
        SERVER,
        "        for id in list(self._coming):\n            self._forget(id, now)\n        left",
        "        left",
        "test_server_end.test_a_stream_that_ends_gives_its_demands_grants_and_half_sent_calls_back_at_once",
    ),
    "a call whose parts stop keeps its slot": (SERVER, "call.fed_at + GRANT_SECONDS <= now or", "False and", WORLDS),
    "a call that trickles has no deadline": (
        SERVER,
        "<= now or call.deadline <= now",
        "<= now",
        "test_server_end.test_a_call_that_trickles_ends_at_its_deadline_and_does_not_hold_its_slot_for_ever",
    ),
    "a cancelled call is still there": (
        SERVER,
        "execution = self.running.pop(id, None)",
        "execution = self.running.get(id)",
        WORLDS,
    ),
    "a stream that has read stays barred": (
        SERVER,
        "            claim.barred = self.congested\n        return",
        "            pass\n        return",
        "test_server_end.test_a_barred_stream_is_granted_nothing_and_asks_anew",
    ),
    "a call starts before it is whole": (
        SERVER,
        "if execution.assembly.add(part.data) and not part.last:",
        "if not execution.assembly.add(part.data) and not part.last:",
        WORLDS,
    ),
    "parts go before their reply": (
        SERVER,
        "        if self._full:\n            return self._full.popleft()\n",
        "        if self._full and not self._parts:\n            return self._full.popleft()\n",
        "test_server_end.test_no_part_goes_before_its_reply_however_much_is_before_them",
    ),
    "an id used twice runs twice": (
        SERVER,
        "        if call.id in self.running:",
        "        if False:",
        "test_server_end.test_an_id_that_is_in_use_is_refused_to_the_second_and_the_first_goes_on",
    ),
    # slots, grants and places
    "one too many is let in": (
        ADMISSION,
        "        if self.taken < self.slots and not self.draining:\n            self.in_flight += 1\n            return True\n        if granted:",
        "        if self.taken <= self.slots and not self.draining:\n            self.in_flight += 1\n            return True\n        if granted:",
        WORLDS,
    ),
    "one too many is granted": (
        ADMISSION,
        "        while self.taken < self.slots:",
        "        while self.taken <= self.slots:",
        WORLDS,
    ),
    "a slot that comes free is kept from muxes": (
        ADMISSION,
        "        if self._heap or self._demands.waiting:\n",
        "        if self._heap:\n",
        WORLDS,
    ),
    "a grant given back is kept": (
        ADMISSION,
        "            self._demands.use(claim)\n        self._pass_on(now)",
        "            self._demands.use(claim)",
        WORLDS,
    ),
    "a grant does not count as taken": (
        ADMISSION,
        "return self.in_flight + self._demands.granted",
        "return self.in_flight",
        WORLDS,
    ),
    "a stock caller goes before who has waited longer": (
        ADMISSION,
        "waiter.since <= since",
        "waiter.since >= 0",
        "test_server_end.test_first_come_first_served_over_streams_and_stock_callers",
    ),
    "a lapsed grant is taken back twice": (
        DEMANDS,
        "            claim.lapsed -= 1\n            return False\n",
        "            claim.lapsed -= 1\n            self.granted -= 1\n            return False\n",
        WORLDS,
    ),
    "a grant does not lapse": (
        DEMANDS,
        "self._out[0][0] + GRANT_SECONDS <= now",
        "self._out[0][0] + 1e9 <= now",
        WORLDS,
    ),
    "whoever hangs is granted again and again": (
        DEMANDS,
        "                self.want(claim, 0, now)\n        return found",
        "        return found",
        "test_server_end.test_a_grant_that_is_not_used_lapses_and_its_stream_is_mute_until_it_says_something",
    ),
    "a grant leaves its demand behind": (DEMANDS, "        claim.waiting -= 1\n", "", WORLDS),
    "a flood has all the places that it wants": (
        DEMANDS,
        "min(waiting, self._places)",
        "min(waiting, 10_000)",
        WORLDS,
    ),
    "the barred are granted": (
        DEMANDS,
        "            elif claim.barred:",
        "            elif False:",
        "test_server_end.test_a_barred_stream_is_granted_nothing_and_asks_anew",
    ),
    "a demand that was dropped keeps its place": (
        DEMANDS,
        "            claim.void += claim.waiting - waiting",
        "            pass",
        "test_server_end.test_who_wants_nothing_any_more_has_no_place_to_come_back_to",
    ),
    "whoever came last is first": (
        DEMANDS,
        "self._queue.extend(",
        "self._queue.extendleft(",
        "test_server_end.test_a_grant_given_back_goes_to_whoever_is_next",
    ),
    "a stream that ends keeps its grants": (
        DEMANDS,
        "        self.granted -= len(claim.out)\n",
        "",
        "test_server_end.test_a_stream_that_ends_gives_its_demands_grants_and_half_sent_calls_back_at_once",
    ),
    # parts and deadlines
    "the last part is not said": (
        PARTS,
        "return id, piece, sent >= len(data)",
        "return id, piece, sent > len(data)",
        "test_parts.test_payloads_take_turns_and_each_ends_with_its_last_part",
    ),
    "what is dropped goes on": (
        PARTS,
        "if entry[0] == id:",
        "if entry[0] == id + 1:",
        "test_parts.test_what_nobody_wants_is_dropped_and_no_longer_counted",
    ),
    "a deadline is told again": (
        DEADLINES,
        "found.append(heapq.heappop(self._heap)[1])",
        "found.append(self._heap[0][1])\n            break",
        WORLDS,
    ),
}


class _Planted(importlib.machinery.SourceFileLoader):
    """Loads a module's source with a line of it changed."""

    def __init__(self, name: str, path: str, line: str, becomes: str) -> None:
        super().__init__(name, path)
        self._line, self._becomes = line, becomes

    def get_code(self, fullname: str) -> Any:
        source = Path(self.path).read_text()
        if self._line:
            assert source.count(self._line) == 1, f"not there once any more: {self._line!r}; plant it where it went"
            source = source.replace(self._line, self._becomes)
        return self.source_to_code(source.encode(), self.path)


def _load(name: str, path: str, line: str = "", becomes: str = "") -> ModuleType:
    loader = _Planted(name, path, line, becomes)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


@pytest.fixture
def planted() -> Iterator[Callable[..., dict[str, ModuleType]]]:
    """All the state machines anew, with one line changed; whoever imports them in this test gets those."""
    before = {name: importlib.import_module(name) for name in ORDER}

    def plant(module: str = "", line: str = "", becomes: str = "") -> dict[str, ModuleType]:
        return {
            name: _load(name, str(real.__file__), *((line, becomes) if name == module else ("", "")))
            for name, real in before.items()
        }

    yield plant
    sys.modules.update(before)
    sys.modules.pop("planted_test", None)


def worlds(world: Any, made: Mapping[str, ModuleType], machines: Any, faults: Any, rough: Any) -> None:
    """Runs worlds until one of them finds something."""
    admission = made[ADMISSION]
    classes = machines(
        client_end=made[CLIENT].ClientEnd,
        server_end=made[SERVER].ServerEnd,
        admission=admission.Admission,
        asking=admission.Asking,
        waiter=admission.Waiter,
    )
    kinds = (faults(stock=0.2), rough, faults(large=0.3, nap=2.0), rough)
    for seed in range(60):
        w = world(
            seed,
            clients=2 + seed % 3,
            endpoints=1 + seed // 4 % 3,
            faults=kinds[seed % 4],
            machines=classes,
            delay=0.02 if seed % 4 == 1 else 0.001,
            window=1 + seed % 5,
        )
        w.load(60, seconds=0.5 if seed % 4 == 0 else 2.0)
        w.run()
        w.check_rest()


def find(finder: str, made: Mapping[str, ModuleType], *args: Any) -> None:
    """Runs a finder over these machines."""
    if finder == WORLDS:
        worlds(args[0], made, *args[1:])
        return
    file, _, test = finder.partition(".")
    function: Any = getattr(_load("planted_test", str(HERE / f"{file}.py")), test)
    marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
    for values in itertools.product(*(mark.args[1] for mark in marks)):
        function(**{mark.args[0]: value for mark, value in zip(marks, values, strict=True)})


def test_the_machines_as_they_are_pass(planted: Any, world: Any, machines: Any, faults: Any, rough: Any) -> None:
    made = planted()
    for finder in sorted({finder for *_, finder in MUTATIONS.values()}):
        find(finder, made, world, machines, faults, rough)


@pytest.mark.parametrize("what", MUTATIONS)
def test_it_is_found_that(what: str, planted: Any, world: Any, machines: Any, faults: Any, rough: Any) -> None:
    module, line, becomes, finder = MUTATIONS[what]
    made = planted(module, line, becomes)
    with _not_for_ever(), pytest.raises((Exception, pytest.fail.Exception)):
        find(finder, made, world, machines, faults, rough)


class _not_for_ever:  # noqa: N801 # read as a phrase
    """Ends what a defect has made endless: that, too, is a finding."""

    def __enter__(self) -> None:
        def enough(*_: object) -> None:
            raise TimeoutError("it goes round in circles")

        self._before = signal.signal(signal.SIGVTALRM, enough)
        signal.setitimer(signal.ITIMER_VIRTUAL, 10.0)  # of CPU: five times what it takes when nothing is wrong

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, self._before)
