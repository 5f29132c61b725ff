"""The client's end alone: what it says, and that no endpoint can make it end a call twice or hang on to a slot."""

import pytest

from atomesh.rpc.mux.client_end import PING_SECONDS, SILENT_SECONDS, ClientEnd, Sent
from atomesh.rpc.mux.parts import WHOLE_BYTES
from atomesh.v1.mux_pb2 import MuxHello, MuxLoad, MuxOpen, MuxPart, MuxReply, MuxRequest, MuxResponse

LARGE = b"x" * (20 * WHOLE_BYTES)


def opened() -> ClientEnd:
    """An end whose first frame has gone and been answered."""
    end = ClientEnd(MuxOpen(agent="echo"))
    assert end.take(0.0) is not None
    end.receive(MuxResponse(hello=MuxHello(slots=2)), 0.0)
    return end


def call(end: ClientEnd, input: bytes = b"in", deadline: float = 10.0, *, granted: bool = False) -> Sent:
    return end.call(input, b"", deadline, None, granted=granted)


def taken(end: ClientEnd, now: float = 0.0) -> MuxRequest:
    frame = end.take(now)
    assert frame is not None, "there is something to say"
    return frame


def test_the_first_frame_opens_and_carries_the_calls_that_are_there() -> None:
    end = ClientEnd(MuxOpen(agent="echo"))
    call(end)
    frame = taken(end)
    assert (frame.open.agent, frame.open.version, len(frame.open.features)) == ("echo", 1, 3)
    assert len(frame.calls) == 1
    call(end)
    assert not taken(end).HasField("open"), "only the first frame has it"


def test_calls_of_one_moment_go_in_one_frame_with_ids_of_their_own_and_what_is_left_of_their_time() -> None:
    end = opened()
    for deadline in (1.0, 2.0, 2.5):
        call(end, deadline=deadline)
    frame = taken(end, 0.5)
    assert [c.timeout_us for c in frame.calls] == [500_000, 1_500_000, 2_000_000]
    assert len({c.id for c in frame.calls}) == 3
    assert all(c.id for c in frame.calls), "0 is no id: it looks like none"
    assert end.take(0.5) is None


def test_an_id_is_never_used_twice_whatever_becomes_of_calls() -> None:
    end = opened()
    seen = set()
    for turn in range(200):
        sent = call(end)
        assert sent.id not in seen
        seen.add(sent.id)
        if turn % 2:
            taken(end)
        if turn % 3:
            end.cancel(sent)


def test_a_call_is_on_the_wire_once_a_frame_has_it_and_not_before() -> None:
    end = opened()
    sent = call(end)
    assert not sent.on_wire, "a stream that breaks now has not run it"
    taken(end)
    assert sent.on_wire


def test_a_call_whose_time_is_up_when_it_is_sent_does_not_ask_for_the_default() -> None:
    end = opened()
    call(end, deadline=1.0)
    assert taken(end, 1.0).calls[0].timeout_us == 1, "0 would be the endpoint's default"


def test_who_is_cancelled_before_being_sent_is_never_sent() -> None:
    end = opened()
    end.cancel(call(end))
    assert end.take(0.0) is None
    assert end.calls == {}


def test_cancelled_calls_before_it_do_not_keep_a_call_from_being_sent() -> None:
    end = opened()
    gone = [call(end) for _ in range(500)]
    last = call(end)
    for sent in gone:
        end.cancel(sent)
    assert [c.id for c in taken(end).calls] == [last.id]


def test_who_is_cancelled_later_is_cancelled_there_once_and_what_comes_for_it_is_dropped() -> None:
    end = opened()
    sent = call(end)
    taken(end)
    end.cancel(sent)
    end.cancel(sent)
    assert list(taken(end).cancels) == [sent.id]
    assert end.receive(MuxResponse(replies=[MuxReply(id=sent.id, output=b"late")]), 0.1).ended == []


@pytest.mark.parametrize(
    "frame",
    [
        MuxResponse(replies=[MuxReply(id=99)]),
        MuxResponse(replies=[MuxReply(id=1), MuxReply(id=1)]),
        MuxResponse(replies=[MuxReply(id=1)], rejects=[1]),
        MuxResponse(rejects=[1, 1, 99]),
        MuxResponse(replies=[MuxReply(id=1, more=True, size=10)], rejects=[1], parts=[MuxPart(id=1, data=b"x" * 10)]),
        MuxResponse(replies=[MuxReply(id=1, more=True, size=4)], parts=[MuxPart(id=1, data=b"x" * 5)] * 3),
        MuxResponse(parts=[MuxPart(id=1, data=b"x", last=True)]),
    ],
)
def test_whatever_an_endpoint_sends_a_call_ends_at_most_once(frame: MuxResponse) -> None:
    end = opened()
    sent = call(end)
    taken(end)
    ends = 0
    for _ in range(3):
        received = end.receive(frame, 0.1)
        ends += [s for s, _, _ in received.ended].count(sent) + received.rejected.count(sent)
    assert ends <= 1


def test_a_reply_to_a_call_that_was_not_sent_is_none() -> None:
    end = opened()
    sent = call(end)
    assert end.receive(MuxResponse(replies=[MuxReply(id=sent.id, output=b"?")]), 0.0).ended == []
    assert len(taken(end).calls) == 1, "it is still sent"


def test_demand_is_what_waits_and_grants_less_rejects_and_is_said_when_it_changes() -> None:
    end = opened()
    assert end.park(3)
    assert taken(end).demand == 3
    assert not end.park(3), "nothing new is nothing to say"
    assert end.take(0.0) is None
    first, second = call(end), call(end)
    taken(end)
    end.receive(MuxResponse(rejects=[first.id, second.id]), 0.0)
    end.park(3)
    assert taken(end).demand == 1, "two of the three are known there by their rejects"
    end.receive(MuxResponse(grants=1), 0.0)
    call(end, granted=True)
    end.park(2)
    frame = taken(end)
    assert not frame.HasField("demand"), "2 wait, 1 was granted, 2 were rejected: as before, which is not said again"
    end.park(0)
    assert taken(end).demand == -1


def test_rejects_of_calls_that_nobody_waits_for_are_no_demands() -> None:
    end = opened()
    sent = call(end)
    taken(end)
    end.cancel(sent)
    taken(end)
    end.receive(MuxResponse(rejects=[sent.id]), 0.0)
    assert taken(end).demand == -1, "it has to be said that nobody waits"


def test_a_grant_is_used_by_one_call_and_no_other_claims_to() -> None:
    end = opened()
    end.receive(MuxResponse(grants=1), 0.0)
    assert end.holding == 1
    call(end, granted=True)
    call(end, granted=True)
    assert [c.granted for c in taken(end).calls] == [True, False]
    assert end.holding == 0


def test_a_grant_that_is_not_needed_is_given_back() -> None:
    end = opened()
    end.receive(MuxResponse(grants=3), 0.0)
    end.give_back()
    assert taken(end).returned == 1
    end.give_back(2)
    frame = taken(end)
    assert (frame.returned, frame.demand) == (3, 3), "both count from the start of the stream"
    assert end.holding == 0


def test_a_granted_call_that_is_cancelled_before_it_was_sent_gives_its_grant_back() -> None:
    end = opened()
    end.receive(MuxResponse(grants=1), 0.0)
    end.cancel(call(end, granted=True))
    assert taken(end).returned == 1


def test_a_granted_call_that_is_cancelled_after_it_was_sent_has_used_its_grant() -> None:
    end = opened()
    end.receive(MuxResponse(grants=1), 0.0)
    sent = call(end, granted=True)
    taken(end)
    end.cancel(sent)
    frame = taken(end)
    assert list(frame.cancels) == [sent.id]
    assert frame.returned == 0


def test_a_large_input_follows_its_call_in_parts_and_small_calls_go_between() -> None:
    end = opened()
    large = call(end, LARGE)
    frame = taken(end)
    begun = frame.calls[0]
    assert (begun.more, begun.size) == (True, len(LARGE))
    whole = begun.input + b"".join(part.data for part in frame.parts)
    small = call(end, b"small")
    frame = taken(end)
    assert frame.calls[0].id == small.id, "it does not wait for the parts"
    while True:
        for part in frame.parts:
            assert part.id == large.id
            whole += part.data
        if frame.parts and frame.parts[-1].last:
            break
        frame = taken(end)
    assert whole == LARGE
    assert end.take(0.0) is None


@pytest.mark.parametrize("how", ["cancel", "reject", "refuse", "late"])
def test_the_parts_of_a_call_that_has_ended_are_not_sent(how: str) -> None:
    end = opened()
    sent = call(end, b"x" * (50 * WHOLE_BYTES), deadline=1.0)
    taken(end)
    if how == "cancel":
        end.cancel(sent)
    elif how == "reject":
        end.receive(MuxResponse(rejects=[sent.id]), 0.0)
    elif how == "refuse":
        end.receive(MuxResponse(replies=[MuxReply(id=sent.id, status=b"draining")]), 0.0)
    else:
        assert end.due(1.0) == [sent]
    while (frame := end.take(2.0)) is not None:
        assert not frame.parts, "nobody there waits for them"


def test_a_large_output_is_put_together_and_anything_but_what_was_said_is_none() -> None:
    end = opened()
    good, short, long, huge = (call(end) for _ in range(4))
    taken(end)
    frame = MuxResponse()
    for sent, size in ((good, 6), (short, 7), (long, 5), (huge, 2**60)):
        frame.replies.add(id=sent.id, output=b"abc", more=True, size=size)
    assert end.receive(frame, 0.0).ended == []
    outputs: dict[int, bytes | None] = {}
    for sent in (good, short, long, huge):
        for part in (b"d", b"ef"):
            last = part == b"ef"
            got = end.receive(MuxResponse(parts=[MuxPart(id=sent.id, data=part, last=last)]), 0.0)
            outputs |= {ended.id: output for ended, _, output in got.ended}
    assert outputs == {good.id: b"abcdef", short.id: None, long.id: None, huge.id: None}
    assert end.calls == {}


def test_no_frame_is_larger_than_a_mebibyte_whatever_is_in_it() -> None:
    end = opened()
    for n in range(20_000):
        sent = call(end, b"" if n % 3 else b"y" * WHOLE_BYTES if n % 300 == 0 else b"")
        sent.authorization = b"Bearer " + b"t" * 1000
    for _ in range(3):
        call(end, LARGE)
    while (frame := end.take(0.0)) is not None:
        assert frame.ByteSize() <= 1024 * 1024, "the protocol says so, and gRPC ends a stream at 4 MiB"


def test_a_frame_has_no_more_calls_and_cancels_than_the_protocol_allows() -> None:
    end = opened()
    sent = [call(end, b"") for _ in range(70_000)]
    calls = [len(taken(end).calls)]
    while (frame := end.take(0.0)) is not None:
        calls.append(len(frame.calls))
    assert max(calls) <= 4096
    assert sum(calls) == 70_000
    for one in sent:
        end.cancel(one)
    cancels = [list(taken(end).cancels)]
    while (frame := end.take(0.0)) is not None:
        cancels.append(list(frame.cancels))
    assert max(map(len, cancels)) <= 65_536
    assert sorted(id for ids in cancels for id in ids) == [one.id for one in sent]


def test_deadlines_end_calls_sent_and_unsent_and_tell_the_endpoint_of_those_that_were_sent() -> None:
    end = opened()
    sent = call(end, deadline=1.0)
    taken(end)
    unsent = call(end, deadline=1.0)
    assert end.due(0.999) == []
    assert end.due(1.0) == [sent, unsent]
    assert list(taken(end, 1.0).cancels) == [sent.id]
    assert end.next_event() is None


def test_an_endpoint_that_says_nothing_is_asked_and_is_silent_when_it_does_not_answer() -> None:
    end = opened()
    call(end)
    taken(end)
    assert end.next_event() == PING_SECONDS
    assert not end.silent(PING_SECONDS)
    assert taken(end, PING_SECONDS).ping, "it is asked"
    asked = PING_SECONDS + SILENT_SECONDS
    assert end.next_event() == asked
    assert not end.silent(asked - 0.001)
    assert end.silent(asked)
    assert end.next_event() == 10.0, "only the call's own deadline is left to wait for: a past time would spin"
    end.receive(MuxResponse(pong=1), asked + 1)
    assert not end.silent(asked + 1), "it is back"


def test_nobody_is_asked_while_nothing_is_wanted() -> None:
    end = opened()
    assert end.next_event() is None
    assert not end.silent(1e6)
    assert end.take(1e6) is None


def test_a_client_with_parked_calls_only_asks_as_well() -> None:
    end = opened()
    end.park(1)
    taken(end)
    assert end.next_event() == PING_SECONDS


def test_what_an_endpoint_says_of_itself_stays_said() -> None:
    end = opened()
    end.receive(MuxResponse(retire=True, drain=True, load=MuxLoad(in_flight=1)), 0.0)
    end.receive(MuxResponse(), 0.0)
    assert end.retiring
    assert end.draining


def test_the_first_hello_counts() -> None:
    end = opened()
    end.receive(MuxResponse(hello=MuxHello(slots=99)), 0.0)
    assert end.hello is not None
    assert end.hello.slots == 2
