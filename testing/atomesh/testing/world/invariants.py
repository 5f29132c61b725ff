"""What must hold at every event of every world, whatever its faults.

The books are kept from outside: by what agents execute, what callers get and
what leaves a client's host, never by the library's own counters. So a counter
that is wrong in the library is no alibi.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from atomesh.balancer.budget import FLOOR_PER_SECOND, RATIO, RESERVE_SECONDS
from atomesh.core.errors import AtomeshError
from atomesh.testing.world.jobs import Job
from atomesh.testing.world.trace import Trace

LATE = 0.1
"""Seconds after its deadline by which a call must have ended."""
IDLE_WORK = 1.0
"""Seconds that an execution may go on for nobody, where nothing is broken."""
KEPT = 40
"""Last events that are shown of a violation."""
ENOUGH = 5
"""Violations of one world that are kept: what follows the first mostly follows from it."""


@dataclass(slots=True)
class CallRecord:
    """One call, as its caller and the agents saw it."""

    client: str
    number: int
    deadline: float
    idempotent: bool
    began: float
    job: Job
    dawdles: float = 0.0
    """Seconds for which its caller does not look."""
    executions: int = 0
    runs_at: list[str] = field(default_factory=list)
    """Endpoints that execute it now."""
    ended: float | None = None
    result: str = ""
    unexecuted: bool = False
    """Its caller was told that it certainly did not run."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that did not hold."""

    time: float
    what: str
    events: tuple[str, ...]
    """The last before it."""


@dataclass(slots=True)
class Book:
    """Calls, executions, and the rules over both."""

    trace: Trace
    most: int
    """Executions of one call, at most."""
    calls: dict[int, CallRecord] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    """Executions now, by endpoint."""
    progress: dict[str, float] = field(default_factory=dict)
    """When a call of each client was last begun to be executed."""
    violations: list[Violation] = field(default_factory=list)

    def violated(self, now: float, what: str) -> None:
        """A rule did not hold."""
        if len(self.violations) < ENOUGH:
            self.trace.add("VIOLATION", what)
            self.violations.append(Violation(now, what, tuple(self.trace.lines[-KEPT:])))

    def call_began(self, call: CallRecord) -> None:
        """A caller calls."""
        self.calls[call.number] = call
        job = call.job
        kind = f"{job.chunks} chunks" if job.chunks else "call"
        large = f", {job.padding} bytes" if job.padding else ""
        self.trace.add(call.client, f"call {call.number} begins: {kind} of {job.seconds:.4f} s{large}")

    def call_ended(self, number: int, now: float, error: BaseException | None, answer: str) -> None:
        """A caller has its answer, or its error."""
        call = self.calls[number]
        if call.ended is not None:
            self.violated(now, f"call {number} ended twice")
        call.ended = now
        call.result = "OK" if error is None else _reason(error)
        self.trace.add(call.client, f"call {number} ends: {call.result}")
        if error is None and answer != call.job.output:
            self.violated(now, f"call {number} got the answer {answer!r:.80}")
        if error is None and not call.executions:
            self.violated(now, f"call {number} went well and was never executed")
        if isinstance(error, AtomeshError):
            call.unexecuted = error.executed is False and all(each.executed is False for each in error.attempts)
            if call.unexecuted and call.executions:
                self.violated(now, f"call {number} failed as never executed ({call.result}), and was executed")

    def execution_began(self, endpoint: str, slots: int, number: int, now: float) -> None:
        """An agent begins."""
        at_once = self.running[endpoint] = self.running.get(endpoint, 0) + 1
        self.trace.add(endpoint, f"executes {number}, {at_once} of {slots}")
        if at_once > slots:
            self.violated(now, f"{endpoint} executes {at_once} at once in {slots} slots")
        call = self.calls[number]
        self.progress[call.client] = now
        call.executions += 1
        call.runs_at.append(endpoint)
        if call.executions > 1 and not call.idempotent:
            self.violated(now, f"call {number} is not idempotent and runs for the {call.executions}. time")
        if call.executions > self.most:
            self.violated(now, f"call {number} runs for the {call.executions}. time, {self.most} are allowed")
        if call.unexecuted:
            self.violated(now, f"call {number} runs, after its caller was told that it did not")

    def execution_ended(self, endpoint: str, number: int, how: str) -> None:
        """An agent has ended."""
        self.running[endpoint] -= 1
        self.calls[number].runs_at.remove(endpoint)
        self.trace.add(endpoint, f"has executed {number}: {how}")

    def died(self, endpoint: str) -> None:
        """What ran there is gone with it."""
        self.running.pop(endpoint, None)
        for call in self.calls.values():
            call.runs_at = [each for each in call.runs_at if each != endpoint]

    def check_ends(self, now: float, excused: set[str]) -> None:
        """Every call ends by its deadline; `excused` are clients that stood still."""
        for call in self.calls.values():
            if call.ended is None and now > call.deadline + LATE + call.dawdles and call.client not in excused:
                self.violated(
                    now, f"call {call.number} of {call.client} has not ended {now - call.deadline:.3f} s late"
                )
                call.deadline = float("inf")  # said once

    def check_idle_work(self, now: float) -> None:
        """Where nothing is broken, nobody works for a caller that is gone."""
        for call in self.calls.values():
            if call.runs_at and call.ended is not None and now > call.ended + IDLE_WORK:
                self.violated(
                    now, f"call {call.number} ended {now - call.ended:.3f} s ago ({call.result}) and still runs"
                )
                call.ended = now + 1e9  # said once

    def check_amplification(self, now: float, clients: int) -> None:
        """Executions beyond the first of each call stay within the clients' budgets."""
        again = sum(max(0, call.executions - 1) for call in self.calls.values())
        allowed = RATIO * len(self.calls) + clients * FLOOR_PER_SECOND * (RESERVE_SECONDS + now)
        if again > allowed:
            self.violated(
                now, f"{again} executions were repeated for {len(self.calls)} calls; {allowed:.0f} are allowed"
            )


def _reason(error: BaseException) -> str:
    return str(error.reason) if isinstance(error, AtomeshError) else type(error).__name__
