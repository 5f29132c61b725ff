"""Each rule of a world can be broken: what would break it is told to the books by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from atomesh.core.endpoint import Endpoint, State
from atomesh.core.errors import AgentFailed, Attempt, ConnectionLost, NoEndpoint
from atomesh.core.updates import Added, Changed, Position, Removed, Reset, ResetReason, Update, WatchEvent
from atomesh.testing.world.audit import MAX_FRAME, MuxAudit
from atomesh.testing.world.invariants import ENOUGH, Book, CallRecord
from atomesh.testing.world.jobs import Job
from atomesh.testing.world.trace import Trace
from atomesh.testing.world.view import View
from atomesh.v1 import mux_pb2

DONE = Job(1, 0.1).output


@pytest.fixture
def book() -> Book:
    """With one call, at 0 s, to be over at 10 s."""
    book = Book(Trace(lambda: 0.0), most=3)
    book.call_began(_call(1))
    return book


def _call(number: int, *, idempotent: bool = False) -> CallRecord:
    return CallRecord("client-1", number, 10.0, idempotent, 0.0, Job(number, 0.1))


def _told(book: Book) -> list[str]:
    return [violation.what for violation in book.violations]


def test_a_call_that_runs_once_and_is_answered_breaks_nothing(book: Book) -> None:
    book.execution_began("endpoint-1", 1, 1, 1.0)
    book.execution_ended("endpoint-1", 1, "done")
    book.call_ended(1, 2.0, None, DONE)
    book.check_ends(50.0, set())
    book.check_idle_work(50.0)
    book.check_amplification(50.0, 1)
    assert _told(book) == []


def test_more_at_once_than_slots(book: Book) -> None:
    book.call_began(_call(2))
    book.execution_began("endpoint-1", 1, 1, 1.0)
    book.execution_began("endpoint-1", 1, 2, 1.0)
    assert _told(book) == ["endpoint-1 executes 2 at once in 1 slots"]


def test_a_second_execution_of_what_may_run_once(book: Book) -> None:
    book.execution_began("endpoint-1", 4, 1, 1.0)
    book.execution_began("endpoint-2", 4, 1, 2.0)
    assert _told(book) == ["call 1 is not idempotent and runs for the 2. time"]


def test_more_executions_than_attempts_are_allowed(book: Book) -> None:
    book.call_began(_call(2, idempotent=True))
    for endpoint in ("a", "b", "c"):
        book.execution_began(endpoint, 1, 2, 1.0)
    assert _told(book) == []
    book.execution_began("d", 1, 2, 1.0)
    assert _told(book) == ["call 2 runs for the 4. time, 3 are allowed"]


def test_a_call_that_ends_twice(book: Book) -> None:
    book.call_ended(1, 1.0, AgentFailed("no"), "")
    book.call_ended(1, 2.0, AgentFailed("no"), "")
    assert _told(book) == ["call 1 ended twice"]


def test_another_calls_answer(book: Book) -> None:
    book.execution_began("endpoint-1", 1, 1, 1.0)
    book.call_ended(1, 2.0, None, Job(2, 0.1).output)
    assert _told(book) == ["call 1 got the answer '2 done '"]


def test_an_answer_without_an_execution(book: Book) -> None:
    book.call_ended(1, 2.0, None, DONE)
    assert _told(book) == ["call 1 went well and was never executed"]


def test_who_is_told_that_it_did_not_run_is_told_the_truth(book: Book) -> None:
    book.execution_began("endpoint-1", 1, 1, 1.0)
    book.call_ended(1, 2.0, NoEndpoint("none", executed=False), "")
    assert _told(book) == ["call 1 failed as never executed (NO_ENDPOINT), and was executed"]


def test_and_it_stays_the_truth(book: Book) -> None:
    book.call_ended(1, 2.0, NoEndpoint("none", executed=False), "")
    book.execution_began("endpoint-1", 1, 1, 3.0)
    assert _told(book) == ["call 1 runs, after its caller was told that it did not"]


def test_an_attempt_that_may_have_run_promises_nothing(book: Book) -> None:
    book.execution_began("endpoint-1", 1, 1, 1.0)
    error = NoEndpoint("none", executed=False)
    error.attempts = (Attempt("127.1.0.1:1", "CONNECTION_LOST", 0.1, None, "cut"),)
    book.call_ended(1, 2.0, error, "")
    assert _told(book) == []


def test_a_call_that_outlives_its_deadline_is_told_of_once(book: Book) -> None:
    book.check_ends(10.05, set())
    assert _told(book) == []
    book.check_ends(10.2, {"client-1"})
    assert _told(book) == [], "a client that stood still is excused"
    book.check_ends(10.2, set())
    book.check_ends(11.0, set())
    assert _told(book) == ["call 1 of client-1 has not ended 0.200 s late"]


def test_work_for_a_caller_that_is_gone(book: Book) -> None:
    book.execution_began("endpoint-1", 1, 1, 1.0)
    book.call_ended(1, 2.0, ConnectionLost("cut"), "")
    book.check_idle_work(2.5)
    assert _told(book) == []
    book.check_idle_work(3.5)
    assert _told(book) == ["call 1 ended 1.500 s ago (CONNECTION_LOST) and still runs"]


def test_what_ran_at_a_dead_endpoint_runs_no_more(book: Book) -> None:
    book.execution_began("endpoint-1", 1, 1, 1.0)
    book.died("endpoint-1")
    book.call_ended(1, 2.0, ConnectionLost("cut"), "")
    book.check_idle_work(9.0)
    assert _told(book) == []
    assert book.running == {}


def test_repeated_executions_beyond_the_budgets(book: Book) -> None:
    for number in range(2, 110):
        book.call_began(_call(number, idempotent=True))
        for endpoint in ("a", "b"):
            book.execution_began(f"{endpoint}{number}", 1, number, 1.0)
    book.check_amplification(0.0, 1)
    assert _told(book) == [], "108 are within 10 % of 109 and the reserve of 100"
    book.call_began(_call(110, idempotent=True))
    for endpoint in ("a", "b", "c"):
        book.execution_began(f"{endpoint}110", 1, 110, 1.0)
    book.call_began(_call(111, idempotent=True))
    for endpoint in ("a", "b"):
        book.execution_began(f"{endpoint}111", 1, 111, 1.0)
    book.check_amplification(0.0, 1)
    assert _told(book) == []
    for endpoint in ("a", "b"):
        book.calls[1].idempotent = True
        book.execution_began(endpoint, 1, 1, 1.0)
    book.check_amplification(0.0, 1)
    assert len(_told(book)) == 1, "112 are not"


def test_only_the_first_violations_are_kept_each_with_what_came_before(book: Book) -> None:
    for number in range(2, 2 * ENOUGH):
        book.violated(float(number), f"rule {number}")
    assert len(book.violations) == ENOUGH
    assert book.violations[0].events[-1].endswith("rule 2")


# The mux on the wire.


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def audit(told: list[str]) -> MuxAudit:
    """Of a stream that has begun."""
    audit = MuxAudit(told.append, lambda: 5.0)
    audit.sent(mux_pb2.MuxRequest(open=mux_pb2.MuxOpen()), 10)
    audit.received(mux_pb2.MuxResponse(hello=mux_pb2.MuxHello()), 10)
    return audit


def _sends(*calls: mux_pb2.MuxCall, **fields: object) -> mux_pb2.MuxRequest:
    return mux_pb2.MuxRequest(calls=calls, **fields)  # type: ignore[arg-type] # fields of any type


def test_a_call_with_a_grant_and_its_reply_are_as_they_should_be(audit: MuxAudit, told: list[str]) -> None:
    audit.sent(_sends(demand=1), 10)
    audit.received(mux_pb2.MuxResponse(grants=1), 10)
    audit.sent(_sends(mux_pb2.MuxCall(id=1, granted=True), demand=1), 10)
    audit.received(mux_pb2.MuxResponse(replies=[mux_pb2.MuxReply(id=1)]), 10)
    assert told == []


def _used_twice(audit: MuxAudit) -> None:
    audit.sent(_sends(mux_pb2.MuxCall(id=1), mux_pb2.MuxCall(id=1)), 10)


def _unknown_reply(audit: MuxAudit) -> None:
    audit.received(mux_pb2.MuxResponse(replies=[mux_pb2.MuxReply(id=7)]), 10)


def _two_ends(audit: MuxAudit) -> None:
    audit.sent(_sends(mux_pb2.MuxCall(id=1)), 10)
    audit.received(mux_pb2.MuxResponse(replies=[mux_pb2.MuxReply(id=1)], rejects=[1]), 10)


def _no_grant(audit: MuxAudit) -> None:
    audit.sent(_sends(mux_pb2.MuxCall(id=1, granted=True)), 10)


def _grant_kept_twice(audit: MuxAudit) -> None:
    audit.received(mux_pb2.MuxResponse(grants=1), 10)
    audit.sent(_sends(mux_pb2.MuxCall(id=1, granted=True), returned=1), 10)


def _returned_falls(audit: MuxAudit) -> None:
    audit.received(mux_pb2.MuxResponse(grants=2), 10)
    audit.sent(_sends(returned=2), 10)
    audit.sent(_sends(returned=1), 10)


def _negative_demand(audit: MuxAudit) -> None:
    audit.received(mux_pb2.MuxResponse(grants=2), 10)
    audit.sent(_sends(demand=1), 10)


def _opened_again(audit: MuxAudit) -> None:
    audit.sent(mux_pb2.MuxRequest(open=mux_pb2.MuxOpen()), 10)


def _greeted_again(audit: MuxAudit) -> None:
    audit.received(mux_pb2.MuxResponse(hello=mux_pb2.MuxHello()), 10)


def _too_large(audit: MuxAudit) -> None:
    audit.sent(_sends(mux_pb2.MuxCall(id=1)), MAX_FRAME + 1)


def _cancels_nothing(audit: MuxAudit) -> None:
    audit.sent(_sends(cancels=[3]), 10)


def _part_of_nothing(audit: MuxAudit) -> None:
    audit.sent(_sends(parts=[mux_pb2.MuxPart(id=3, data=b"x")]), 10)


def _too_many_bytes(audit: MuxAudit) -> None:
    audit.sent(_sends(mux_pb2.MuxCall(id=1, more=True, size=4, input=b"12")), 10)
    audit.sent(_sends(parts=[mux_pb2.MuxPart(id=1, data=b"345", last=True)]), 10)


def _too_few_bytes(audit: MuxAudit) -> None:
    audit.sent(_sends(mux_pb2.MuxCall(id=1)), 10)
    audit.received(mux_pb2.MuxResponse(replies=[mux_pb2.MuxReply(id=1, more=True, size=4, output=b"12")]), 10)
    audit.received(mux_pb2.MuxResponse(parts=[mux_pb2.MuxPart(id=1, data=b"3", last=True)]), 10)


BREAKS: dict[str, Callable[[MuxAudit], None]] = {
    "id 1 is used twice": _used_twice,
    "a reply comes for call 7, which never began": _unknown_reply,
    "a reject comes for call 1, which has ended": _two_ends,
    "1 grants are used and 0 given back, and 0 have come": _no_grant,
    "1 grants are used and 1 given back, and 1 have come": _grant_kept_twice,
    "returned falls from 2 to 1": _returned_falls,
    "a demand of 1 means that -1 calls wait": _negative_demand,
    "`open` is in the first frame, and in no other": _opened_again,
    "`hello` is in the first frame, and in no other": _greeted_again,
    f"a frame has {MAX_FRAME + 1} bytes": _too_large,
    "call 3 is cancelled and never began": _cancels_nothing,
    "a part of an input comes for call 3, which never began": _part_of_nothing,
    "the input of call 1 is 1 bytes longer than its call said": _too_many_bytes,
    "the output of call 1 is -1 bytes longer than its call said": _too_few_bytes,
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_mux_proto_does_not_allow_is_told(what: str, audit: MuxAudit, told: list[str]) -> None:
    BREAKS[what](audit)
    assert told == [what]


def test_a_job_comes_back_as_it_went() -> None:
    job = Job(17, 0.25, 3, 5_000)
    assert Job.read(job.input) == job
    assert len(job.output) == len("17 done ") + 5_000
    assert Job(18, 0.25, 3, 5_000).output != job.output.replace("17 done", "18 done"), "padding must be the call's own"


# A watch, as one client hears it.


def _endpoint(address: str = "127.1.0.3:1", instance: str = "one", state: State = State.SERVING) -> Endpoint:
    return Endpoint(agent="digger", address=address, instance_id=instance, state=state)


def _event(revision: int, *updates: Update, store: str = "store") -> WatchEvent:
    return WatchEvent(updates, Position(store, revision))


@pytest.fixture
def view(told: list[str]) -> View:
    """Of a client that knows one endpoint since revision 3."""
    view = View(told.append)
    view.take(_event(3, Reset((_endpoint(),))))
    return view


def test_a_watch_in_order_is_believed(view: View, told: list[str]) -> None:
    other = _endpoint("127.1.0.4:1", "two")
    view.take(_event(4, Added(other)))
    view.take(_event(4))
    view.take(_event(5, Changed(_endpoint(state=State.DRAINING))))
    assert view.serving() == {"127.1.0.4:1": "two"}
    view.take(_event(6, Removed("digger", "127.1.0.3:1", "one"), Added(_endpoint(instance="three"))))
    view.take(_event(1, Reset((other,), ResetReason.FOREIGN_POSITION), store="another"))
    assert view.serving() == {"127.1.0.4:1": "two"}
    assert told == []


WATCHES: dict[str, WatchEvent] = {
    "it hears of revision 2 after 3": _event(2),
    "it hears of another store without a Reset": _event(4, store="another"),
    "127.1.0.3:1 is added and was there": _event(4, Added(_endpoint(instance="two"))),
    "127.1.0.9:1 is changed and was not there, or as another instance": _event(4, Changed(_endpoint("127.1.0.9:1"))),
    "127.1.0.3:1 is removed and was not there, or as another instance": _event(
        4, Removed("digger", "127.1.0.3:1", "two")
    ),
}


@pytest.mark.parametrize("what", WATCHES)
def test_what_a_watch_must_not_tell_is_told(what: str, view: View, told: list[str]) -> None:
    view.take(WATCHES[what])
    assert told == [what]
