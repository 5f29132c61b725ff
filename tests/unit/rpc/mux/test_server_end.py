"""The endpoint's end alone: strict slots, one ending per call, and strangers that harm nobody but themselves."""

import random
from typing import Any

import pytest

from atomesh.agents.admission import Admission, Asking, Waiter
from atomesh.agents.demands import MIN_PLACES
from atomesh.rpc.mux.parts import WHOLE_BYTES
from atomesh.rpc.mux.server_end import BACKLOG_BYTES, MAX_INPUT, Execution, ServerEnd
from atomesh.rpc.mux.slots import GRANT_SECONDS
from atomesh.v1 import mux_pb2
from atomesh.v1.mux_pb2 import MuxCall, MuxHello, MuxOpen, MuxPart, MuxRequest, MuxResponse

ALL = (mux_pb2.MUX_FEATURE_PARTS, mux_pb2.MUX_FEATURE_GRANTS, mux_pb2.MUX_FEATURE_RETIRE)

NEWER: Any = [mux_pb2.MUX_FEATURE_GRANTS, 77]


class Endpoint:
    """Slots, and streams to them."""

    def __init__(self, slots: int = 1) -> None:
        self.admission = Admission("echo", slots, rng=random.Random(1))

    def stream(self, features: Any = ALL) -> ServerEnd:
        return ServerEnd(self.admission, MuxOpen(version=1, features=features), MuxHello(slots=self.admission.slots))

    def done(self, end: ServerEnd, execution: Execution, now: float = 0.0, output: bytes = b"out") -> None:
        """An execution went well."""
        self.admission.leave(0.1, now)
        end.left(execution)
        end.reply(execution, output, now)


def calls(*ids: int, **more: Any) -> MuxRequest:
    return MuxRequest(calls=[MuxCall(id=id, input=b"in", timeout_us=10_000_000, **more) for id in ids])


def said(end: ServerEnd, now: float = 0.0) -> MuxResponse:
    """All that there is to say."""
    everything = MuxResponse()
    while (frame := end.take(now)) is not None:
        everything.grants += frame.grants
        frame.ClearField("grants")
        granted = everything.grants
        everything.MergeFrom(frame)
        everything.grants = granted
    return everything


def test_the_hello_names_what_both_ends_speak() -> None:
    end = ServerEnd(Endpoint().admission, MuxOpen(version=99, features=NEWER), MuxHello(slots=1))
    hello = said(end).hello
    assert (hello.version, list(hello.features)) == (1, [2])
    old = ServerEnd(Endpoint().admission, MuxOpen(), MuxHello(slots=1))
    assert (said(old).hello.version, list(said(old).hello.features)) == (1, [])


def test_a_call_runs_where_a_slot_is_free_and_is_rejected_unexecuted_where_none_is() -> None:
    here = Endpoint(2)
    end = here.stream()
    received = end.receive(calls(1, 2, 3), 0.0)
    assert [execution.id for execution in received.start] == [1, 2]
    assert list(said(end).rejects) == [3]
    assert end.claim.running == 2


def test_a_reject_is_a_demand_until_the_client_says_otherwise() -> None:
    here = Endpoint(1)
    end = here.stream()
    (running,) = end.receive(calls(1, 2), 0.0).start
    here.done(end, running)
    assert said(end).grants == 1, "the slot that came free is granted to whoever was rejected"
    other = here.stream()
    other.receive(calls(1), 0.1)
    other.receive(MuxRequest(demand=-1), 0.1)
    end.receive(MuxRequest(returned=1), 0.2)
    assert said(other).grants == 0, "a client that says demand = -rejects wants nothing"
    assert here.admission.taken == 0


def test_who_does_not_know_grants_is_granted_nothing() -> None:
    here = Endpoint(1)
    end = here.stream(features=[mux_pb2.MUX_FEATURE_PARTS])
    (running,) = end.receive(calls(1, 2), 0.0).start
    here.done(end, running)
    assert said(end).grants == 0
    assert here.admission.taken == 0


def test_nobody_without_a_grant_takes_the_slot_of_one_that_was_granted() -> None:
    here = Endpoint(1)
    patient, hasty = here.stream(), here.stream()
    (running,) = hasty.receive(calls(1), 0.0).start
    patient.receive(MuxRequest(demand=1), 0.0)
    here.done(hasty, running, 0.1)
    assert said(patient).grants == 1
    assert hasty.receive(calls(2), 0.1).start == []
    assert [e.id for e in patient.receive(calls(7, granted=True), 0.2).start] == [7]


def test_a_claim_to_have_a_grant_is_checked() -> None:
    here = Endpoint(1)
    end, liar = here.stream(), here.stream()
    end.receive(calls(1), 0.0)
    assert liar.receive(calls(1, granted=True), 0.0).start == []
    assert list(said(liar).rejects) == [1]


@pytest.mark.parametrize("demand", [2**62, 2**63 - 1])
def test_a_flood_of_demands_gets_so_many_places_and_no_more(demand: int) -> None:
    here = Endpoint(1)
    flood, other = here.stream(), here.stream()
    (running,) = flood.receive(calls(1), 0.0).start
    flood.receive(MuxRequest(demand=demand), 0.0)
    other.receive(MuxRequest(demand=1), 0.1)
    turns = []
    now = 0.2
    here.done(flood, running, now)
    for _ in range(3 * MIN_PLACES):
        for end in (flood, other):
            if said(end, now).grants:
                turns.append(end)
                (running,) = end.receive(calls(1000 + len(turns), granted=True), now).start
                here.done(end, running, now)
        if other in turns:
            break
        now += 0.01
    assert turns.index(other) <= MIN_PLACES, "whoever came after the flood waits for its places at most"


@pytest.mark.parametrize("demand", [-(2**62), -(2**63), -1])
def test_a_negative_demand_is_none(demand: int) -> None:
    here = Endpoint(1)
    end = here.stream()
    (running,) = end.receive(calls(1), 0.0).start
    end.receive(MuxRequest(demand=demand), 0.0)
    here.done(end, running)
    assert said(end).grants == 0
    assert here.admission.wanted == 0


@pytest.mark.parametrize("returned", [[2**63], [1, 2**64 - 1], [5, 4, 3, 2, 1, 0]])
def test_grants_that_were_never_made_are_not_taken_back(returned: list[int]) -> None:
    here = Endpoint(2)
    end, other = here.stream(), here.stream()
    running = other.receive(calls(1, 2), 0.0).start
    other.receive(MuxRequest(demand=2), 0.0)
    for n in returned:
        end.receive(MuxRequest(returned=n), 0.0)
    here.done(other, running[0])
    assert here.admission.taken == 2, "slots of others are not given away by what a stranger says"
    assert said(other).grants == 1


def test_a_grant_given_back_goes_to_whoever_is_next() -> None:
    here = Endpoint(1)
    first, second = here.stream(), here.stream()
    (running,) = first.receive(calls(1), 0.0).start
    first.receive(MuxRequest(demand=1), 0.0)
    second.receive(MuxRequest(demand=1), 0.0)
    here.done(first, running)
    assert (said(first).grants, said(second).grants) == (1, 0)
    first.receive(MuxRequest(demand=1, returned=1), 0.1)
    assert said(second).grants == 1


def test_who_wants_nothing_any_more_has_no_place_to_come_back_to() -> None:
    here = Endpoint(1)
    fickle, patient = here.stream(), here.stream()
    (running,) = patient.receive(calls(1), 0.0).start
    for now, end, demand in ((0.1, fickle, 1), (0.2, patient, 1), (0.3, fickle, 0), (0.4, fickle, 1)):
        end.receive(MuxRequest(demand=demand), now)
    here.done(patient, running, 0.5)
    assert said(patient).grants == 1, "its demand is the oldest that still stands"
    assert said(fickle).grants == 0


def test_a_stream_that_wants_and_wants_not_leaves_nothing_in_the_queue() -> None:
    here = Endpoint(1)
    end, other = here.stream(), here.stream()
    (running,) = other.receive(calls(1), 0.0).start
    for n in range(20_001):
        end.receive(MuxRequest(demand=n % 2), 0.0)
    other.receive(MuxRequest(demand=1), 0.0)
    end.receive(MuxRequest(demand=0), 0.0)
    assert len(here.admission._demands._queue) < 1000
    here.done(other, running)
    assert said(other).grants == 1


def test_first_come_first_served_over_streams_and_stock_callers() -> None:
    here = Endpoint(1)
    one, two = here.stream(), here.stream()
    (running,) = one.receive(calls(1), 0.0).start
    turns: list[str] = []

    def wait(deadline: float, now: float, name: str) -> None:
        waiter = here.admission.ask(Asking(deadline), now)
        assert isinstance(waiter, Waiter)
        waiter.wake = lambda: turns.append(name)

    two.receive(MuxRequest(demand=1), 0.1)
    wait(100.0, 0.2, "stock")
    one.receive(MuxRequest(demand=1), 0.3)
    wait(100.0, 0.4, "stock again")
    one.claim.wake = lambda: turns.append("one")
    two.claim.wake = lambda: turns.append("two")
    here.done(one, running, 0.5)
    (running,) = two.receive(calls(1, granted=True), 0.5).start
    here.done(two, running, 0.5)
    here.admission.leave(0.1, 0.5)  # the stock caller's
    (running,) = one.receive(calls(2, granted=True), 0.5).start
    here.done(one, running, 0.5)
    assert turns == ["two", "stock", "one", "stock again"]


def test_a_grant_that_is_not_used_lapses_and_its_stream_is_mute_until_it_says_something() -> None:
    here = Endpoint(1)
    hung, other = here.stream(), here.stream()
    (running,) = other.receive(calls(1), 0.0).start
    hung.receive(MuxRequest(demand=5), 0.0)
    other.receive(MuxRequest(demand=3), 0.1)
    here.done(other, running, 1.0)
    assert said(other).grants == 0, "the hung one was first"
    assert here.admission.next_event() == 1.0 + GRANT_SECONDS
    here.admission.tick(1.0 + GRANT_SECONDS - 0.001)
    assert said(other).grants == 0
    here.admission.tick(1.0 + GRANT_SECONDS)
    assert said(other).grants == 1, "others have lost 250 ms and no more"
    now = 2.0
    for n in range(2):
        (running,) = other.receive(calls(10 + n, granted=True), now).start
        here.done(other, running, now)
        assert said(other, now).grants == 1, "a mute stream is granted nothing"
    (running,) = other.receive(calls(20, granted=True), now).start
    late = hung.receive(calls(2, granted=True), now)
    assert late.start == [], "its grant is another's now"
    assert list(said(hung).rejects) == [2]
    here.done(other, running, now)
    assert said(hung).grants == 1, "it is there again"


def test_a_lapsed_grant_that_comes_back_is_not_counted_again() -> None:
    here = Endpoint(2)
    slow, other = here.stream(), here.stream()
    running = other.receive(calls(1, 2), 0.0).start
    slow.receive(MuxRequest(demand=1), 0.0)
    here.done(other, running[0], 0.0)
    here.admission.tick(GRANT_SECONDS)
    assert here.admission.taken == 1
    slow.receive(MuxRequest(demand=1, returned=1), 0.3)
    assert here.admission.taken == 1, "the slot was free already"
    assert [e.id for e in other.receive(calls(3, 4), 0.4).start] == [3]


def test_who_is_drained_is_told_and_what_comes_is_refused_and_no_demand() -> None:
    here = Endpoint(1)
    end = here.stream()
    end.drain()
    assert said(end).drain
    here.admission.draining = True
    ((_, why),) = end.receive(calls(1), 0.0).refuse
    assert why == "drain"
    end.receive(MuxRequest(demand=5), 0.0)
    assert said(end).grants == 0


def test_a_call_that_comes_back_is_refused_where_it_would_wait_and_is_no_demand() -> None:
    here = Endpoint(1)
    end = here.stream()
    (running,) = end.receive(calls(1), 0.0).start
    ((_, why),) = end.receive(calls(2, returns=True), 0.0).refuse
    assert why == "returns"
    here.done(end, running)
    assert said(end).grants == 0


def test_retire_is_said_to_those_who_know_of_it() -> None:
    here = Endpoint(1)
    new, old = here.stream(), here.stream(features=[mux_pb2.MUX_FEATURE_GRANTS])
    new.retire()
    old.retire()
    assert said(new).retire
    assert not said(old).retire


# -- one ending per call ----------------------------------------------------------


def test_a_call_is_answered_once_and_not_at_all_after_its_cancel() -> None:
    here = Endpoint(3)
    end = here.stream()
    well, bad, gone = end.receive(calls(1, 2, 3), 0.0).start
    (cancelled,) = end.receive(MuxRequest(cancels=[3]), 0.0).cancel
    assert cancelled is gone
    end.reply(well, b"out", 0.0)
    assert end.reply(well, b"again", 0.0) is None
    end.fail(well, b"and again")
    end.fail(bad, b"status")
    assert end.reply(bad, b"out", 0.0) is None
    assert end.reply(gone, b"out", 0.0) is None
    end.fail(gone, b"status")
    assert [(r.id, r.output, r.status) for r in said(end).replies] == [(1, b"out", b""), (2, b"", b"status")]


def test_an_id_that_is_in_use_is_refused_to_the_second_and_the_first_goes_on() -> None:
    here = Endpoint(2)
    end = here.stream()
    (first,) = end.receive(calls(1), 0.0).start
    received = end.receive(calls(1), 0.0)
    assert received.start == []
    assert received.refuse[0][1] == "twice"
    assert end.reply(first, b"out", 0.0) is not None
    assert here.admission.taken == 1


def test_an_id_used_again_after_its_cancel_does_not_mix_up_the_two() -> None:
    here = Endpoint(2)
    end = here.stream()
    (first,) = end.receive(calls(1), 0.0).start
    end.receive(MuxRequest(cancels=[1]), 0.0)
    (second,) = end.receive(calls(1), 0.0).start
    assert end.reply(first, b"of the first", 0.0) is None
    end.fail(first, b"of the first")
    assert end.gone(0.0) == [second], "it is still known, and ends with its stream"


def test_cancels_of_what_is_not_there_do_nothing() -> None:
    here = Endpoint(1)
    end = here.stream()
    received = end.receive(MuxRequest(cancels=[0, 1, 2**64 - 1]), 0.0)
    assert (received.start, received.cancel, received.refuse) == ([], [], [])


def test_deadlines_are_each_calls_own_and_told_once() -> None:
    here = Endpoint(2)
    end = here.stream()
    frame = MuxRequest(calls=[MuxCall(id=1, timeout_us=1_000_000), MuxCall(id=2, timeout_us=2_000_000)])
    first, second = end.receive(frame, 0.0).start
    assert end.next_event() == 1.0
    assert end.due(1.0) == ([first], [])
    assert end.due(1.5) == ([], [])
    here.done(end, first)
    assert end.next_event() == 2.0
    assert end.due(2.0) == ([second], [])


def test_whoever_gives_no_deadline_has_one_all_the_same() -> None:
    end = Endpoint(1).stream()
    (execution,) = end.receive(MuxRequest(calls=[MuxCall(id=1)]), 5.0).start
    at = end.next_event()
    assert at is not None
    assert 5.0 < at < 5.0 + 86_400
    assert end.due(at) == ([execution], [])


def test_a_stream_that_ends_gives_its_demands_grants_and_half_sent_calls_back_at_once() -> None:
    here = Endpoint(3)
    end, other = here.stream(), here.stream()
    blocker = other.receive(calls(1, 2, 3), 0.0).start
    end.receive(MuxRequest(demand=2), 0.0)
    here.done(other, blocker[0])
    (running,) = end.receive(calls(1, granted=True), 0.0).start
    here.done(other, blocker[1])
    end.receive(calls(2, granted=True, more=True, size=10), 0.0)
    here.done(other, blocker[2])
    end.receive(MuxRequest(demand=5), 0.0)
    assert here.admission.taken == 3
    assert end.gone(0.0) == [running]
    assert here.admission.taken == 1, "only what truly runs holds a slot"
    assert here.admission.wanted == 0
    assert end.reply(running, b"out", 0.0) is None, "nobody is there to be answered"


# -- parts ------------------------------------------------------------------------


def begin(end: ServerEnd, id: int = 1, size: int = 6, first: bytes = b"ab", now: float = 0.0) -> Any:
    return end.receive(MuxRequest(calls=[MuxCall(id=id, input=first, more=True, size=size, timeout_us=5_000_000)]), now)


def part(id: int, data: bytes, *, last: bool = False) -> MuxRequest:
    return MuxRequest(parts=[MuxPart(id=id, data=data, last=last)])


def test_an_input_in_parts_starts_when_it_is_whole_and_holds_its_slot_from_the_beginning() -> None:
    here = Endpoint(1)
    end = here.stream()
    assert begin(end).start == []
    assert here.admission.taken == 1
    assert end.receive(part(1, b"cd"), 0.0).start == []
    (execution,) = end.receive(part(1, b"ef", last=True), 0.0).start
    assert execution.input == b"abcdef"


def test_a_call_may_begin_and_go_on_in_one_frame() -> None:
    end = Endpoint(1).stream()
    frame = MuxRequest(
        calls=[MuxCall(id=1, input=b"ab", more=True, size=4)], parts=[MuxPart(id=1, data=b"cd", last=True)]
    )
    (execution,) = end.receive(frame, 0.0).start
    assert execution.input == b"abcd"


@pytest.mark.parametrize(
    "parts", [[(b"cdefg", False)], [(b"cdef", False), (b"g", True)], [(b"cd", True)], [(b"", True)]]
)
def test_an_input_that_is_not_what_was_said_ends_its_call_alone(parts: list[tuple[bytes, bool]]) -> None:
    here = Endpoint(2)
    end = here.stream()
    begin(end)
    begin(end, id=2)
    refused = [pair for data, last in parts for pair in end.receive(part(1, data, last=last), 0.0).refuse]
    assert [(execution.id, why) for execution, why in refused] == [(1, "size")]
    assert here.admission.taken == 1
    assert len(end.receive(part(2, b"cdef", last=True), 0.0).start) == 1, "the other goes on"


@pytest.mark.parametrize("size", [0, MAX_INPUT + 1, 2**64 - 1])
def test_a_size_over_the_limit_or_none_is_refused_before_anything_is_kept(size: int) -> None:
    here = Endpoint(1)
    end = here.stream()
    ((_, why),) = begin(end, size=size).refuse
    assert why == "size"
    assert here.admission.taken == 0


def test_parts_for_what_never_began_or_came_whole_are_dropped() -> None:
    here = Endpoint(1)
    end = here.stream()
    end.receive(calls(1), 0.0)
    for id in (1, 2, 0, 2**64 - 1):
        received = end.receive(part(id, b"x" * 1000, last=True), 0.0)
        assert (received.start, received.refuse) == ([], [])


def test_a_call_whose_parts_stop_coming_loses_its_slot_after_250_ms() -> None:
    here = Endpoint(1)
    end = here.stream()
    begin(end)
    end.receive(part(1, b"c"), 0.2)
    assert end.due(0.44) == ([], [])
    late, stalled = end.due(0.2 + GRANT_SECONDS)
    assert (late, [execution.id for execution in stalled]) == ([], [1])
    assert here.admission.taken == 0
    assert end.receive(part(1, b"def", last=True), 1.0).start == [], "it comes too late"


def test_a_call_that_trickles_ends_at_its_deadline_and_does_not_hold_its_slot_for_ever() -> None:
    here = Endpoint(1)
    end = here.stream()
    begin(end, size=1_000_000)
    now = 0.0
    while now < 4.9:
        now += 0.1
        end.receive(part(1, b"."), now)
    assert here.admission.taken == 1
    late, stalled = end.due(5.0)
    assert [execution.id for execution in late + stalled] == [1]
    assert here.admission.taken == 0


def test_a_cancel_of_a_half_sent_call_frees_its_slot_and_drops_the_rest() -> None:
    here = Endpoint(1)
    end = here.stream()
    begin(end)
    end.receive(MuxRequest(cancels=[1]), 0.0)
    assert here.admission.taken == 0
    assert end.receive(part(1, b"cdef", last=True), 0.0).start == []


def test_a_large_output_goes_in_parts_after_its_reply() -> None:
    here = Endpoint(2)
    end = here.stream()
    large, small = end.receive(calls(1, 2), 0.0).start
    output = b"y" * (20 * WHOLE_BYTES)
    here.done(end, large, output=output)
    said_first = end.take(0.0)
    assert said_first is not None
    (reply,) = said_first.replies
    assert (reply.more, reply.size) == (True, len(output))
    here.done(end, small)
    frame = end.take(0.0)
    assert frame is not None
    assert [r.id for r in frame.replies] == [2], "a small one does not wait for it"
    rest = MuxResponse(parts=[*said_first.parts, *frame.parts, *said(end).parts])
    assert reply.output + b"".join(p.data for p in rest.parts) == output
    assert [p.last for p in rest.parts][-1]


def test_no_part_goes_before_its_reply_however_much_is_before_them() -> None:
    here = Endpoint(40)
    end = here.stream()
    running = end.receive(calls(*range(1, 41)), 0.0).start
    for execution in running[:30]:
        here.done(end, execution, output=b"y" * 60_000)
    for execution in running[30:]:
        here.done(end, execution, output=b"z" * 200_000)
    begun: set[int] = set()
    while (frame := end.take(0.0)) is not None:
        begun |= {reply.id for reply in frame.replies}
        assert all(part.id in begun for part in frame.parts), "whoever reads would not know whose it is"
    assert len(begun) == 40


def test_the_rest_of_an_output_that_nobody_wants_is_not_sent() -> None:
    here = Endpoint(1)
    end = here.stream()
    (large,) = end.receive(calls(1), 0.0).start
    here.done(end, large, output=b"y" * (40 * WHOLE_BYTES))
    end.take(0.0)
    end.receive(MuxRequest(cancels=[1]), 0.0)
    assert not said(end).parts


# -- who does not read ----------------------------------------------------------------


def flood(kind: str, end: ServerEnd, here: Endpoint, start: int, count: int) -> None:
    """What a client that reads nothing can have us put by for it."""
    if kind == "pings":
        for n in range(count):
            end.receive(MuxRequest(ping=n + 1), 0.0)
    elif kind == "rejects":
        end.receive(calls(*range(start, start + count)), 0.0)
    else:
        for id in range(start, start + count):
            for execution in end.receive(calls(id), 0.0).start:
                size = {"empty outputs": 0, "outputs": 100, "large outputs": 200_000}.get(kind, 0)
                if kind == "statuses":
                    here.admission.leave(0.1, 0.0)
                    end.left(execution)
                    end.fail(execution, b"s" * 300)
                else:
                    here.done(end, execution, output=b"o" * size)


@pytest.mark.parametrize("kind", ["pings", "rejects", "empty outputs", "outputs", "large outputs", "statuses"])
def test_what_a_client_leaves_unread_is_bounded_and_then_it_is_not_read_either(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = BACKLOG_BYTES // 8  # the rule knows no size, and a million rejects take seconds
    monkeypatch.setattr("atomesh.rpc.mux.server_end.BACKLOG_BYTES", bound)
    here = Endpoint(1)
    if kind == "rejects":
        here.admission.try_enter()
    end = here.stream()
    sent = 0
    while not end.claim.barred and sent < (20_000 if kind == "pings" else 150_000):
        flood(kind, end, here, sent + 1, 2000)
        sent += 2000
    assert end.claim.barred or kind == "pings", "the shell stops reading a client that is barred"
    frames, kept = 0, 0
    while (frame := end.take(0.0)) is not None:
        assert frame.ByteSize() <= 1024 * 1024, "no frame is larger than the protocol says"
        frames, kept = frames + 1, kept + frame.ByteSize()
    assert kept < bound + 2000 * 200_100
    assert kept < 2 * bound or kind == "large outputs"
    assert not end.claim.barred, "who has read is read again"
    if kind == "pings":
        assert frames == 1, "the last one is answered"


def test_a_barred_stream_is_granted_nothing_and_asks_anew() -> None:
    here = Endpoint(1)
    end, other = here.stream(), here.stream()
    (running,) = end.receive(calls(1), 0.0).start
    end.receive(MuxRequest(demand=3), 0.0)
    other.receive(MuxRequest(demand=1), 0.1)
    end.claim.barred = True
    here.done(end, running, 0.2)
    assert said(other).grants == 1, "it is passed over though it was first"
    said(end)
    assert not end.claim.barred
    (running,) = other.receive(calls(1, granted=True), 0.3).start
    end.receive(MuxRequest(ping=1), 0.3)
    here.done(other, running, 0.4)
    assert said(end).grants == 1, "any frame of it states its demand again"
