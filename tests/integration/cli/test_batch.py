"""`atomesh batch` as a process, over agents in the test's own: what it writes, how it ends, how it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from atomesh.agents import Agent, AgentFailed, AgentServer, ExecutionContext
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

PATIENCE = 30.0


class Book(Agent[TextInput, TextOutput]):
    """Must not run twice; writes down what it ran, and how."""

    name = "book"

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.keys: dict[str, str] = {}
        self.seconds = 0.0
        self.fails: set[str] = set()

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.begun[input.content] += 1
        self.keys[input.content] = context.context.idempotency_key
        if input.content in self.fails:
            raise AgentFailed("not this one", reason="NOT_THIS")
        await SYSTEM_CLOCK.sleep(self.seconds)
        return TextOutput(result=input.content.upper())


class Twice(Book):
    """May run twice."""

    name = "twice"
    idempotent = True


@dataclass
class Ground:
    """A registry with both agents, and a folder."""

    registry: str
    folder: Path
    book: Book
    twice: Twice
    run: Callable[..., Awaitable[Any]]
    server: AgentServer
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    def write(self, lines: Iterable[str | bytes], name: str = "in.jsonl") -> None:
        data = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
        (self.folder / name).write_bytes(data + b"\n")

    async def batch(self, *arguments: str, agent: str | None = "book", stdin: bytes = b"") -> Any:
        return await self.run(*self._typed(agent, arguments), stdin=stdin)

    async def start(self, *arguments: str, agent: str = "book") -> asyncio.subprocess.Process:
        """Runs on; ended with the test."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "atomesh", *self._typed(agent, arguments),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self.folder), "PATH": ""},
        )  # fmt: skip
        self.started.append(process)
        return process

    def _typed(self, agent: str | None, arguments: tuple[str, ...]) -> list[str]:
        given = ["batch", *([agent] if agent else []), "--registry", self.registry]
        given += [] if "--input-file" in arguments else ["--input-file", str(self.folder / "in.jsonl")]
        given += [] if "--output-file" in arguments else ["--output-file", str(self.folder / "out.jsonl")]
        return [*given, *arguments]

    def outputs(self, name: str = "out.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.is_file()}


def text(content: str) -> str:
    return json.dumps({"content": content, "operation": "sentiment"})


@pytest.fixture
def ground(tmp_path: Path, atomesh: Callable[..., Any]) -> Callable[..., Any]:
    @contextlib.asynccontextmanager
    async def running(slots: int = 4) -> AsyncIterator[Ground]:
        book, twice = Book(), Twice()
        async with RegistryServer(storage=MemoryStorage()) as registry:
            agents = [book, twice]
            async with AgentServer(agents, registry=registry.address, slots=slots, drain_grace=0.0) as server:
                async with asyncio.timeout(PATIENCE):
                    await server.registered.wait()
                ground = Ground(registry.address, tmp_path, book, twice, atomesh, server)
                try:
                    yield ground
                finally:
                    for process in ground.started:
                        if process.returncode is None:
                            process.kill()
                        await process.communicate()

    return running


async def until(condition: Callable[[], bool]) -> None:
    give_up = SYSTEM_CLOCK.now() + PATIENCE
    while not condition():
        assert SYSTEM_CLOCK.now() < give_up, "it did not come about"
        await SYSTEM_CLOCK.sleep(0.01)


async def test_each_line_has_its_output_and_nothing_else_is_left(ground: Any) -> None:
    async with ground() as g:
        g.write(text(f"t{n}") for n in range(300))
        ended = await g.batch()
        assert ended.code == 0
        assert ended.out == "", "outputs go to the file"
        assert {told["line"]: told["output"]["result"] for told in g.outputs()} == {n + 1: f"T{n}" for n in range(300)}
        assert all(told["endpoint"] == g.server.address and told["seconds"] > 0 for told in g.outputs())
        assert "300 items, 300 succeeded, 0 failed" in ended.err
        assert ": success" in ended.err
        assert g.files() == {"in.jsonl", "out.jsonl"}, "nothing is left to resume"
        assert len(set(g.book.keys.values())) == 300


async def test_in_order_the_outputs_are_in_the_order_of_the_lines(ground: Any) -> None:
    async with ground() as g:
        g.write(text(f"t{n}") for n in range(100))
        assert (await g.batch("--ordered")).code == 0
        assert [told["line"] for told in g.outputs()] == list(range(1, 101))


async def test_broken_lines_are_kept_apart_with_number_and_reason(ground: Any) -> None:
    async with ground() as g:
        lines = [text("a"), "{broken", "", "[1]", b"\xff\xfe", '{"contentt": "x"}', '{"content": 7}', text("b")]
        g.write([*lines, '{"content": ' * 2000])
        ended = await g.batch()
        assert ended.code == 1, "two of eight succeeded"
        assert sorted(told["line"] for told in g.outputs()) == [1, 8]
        rejects = {told["line"]: told for told in g.outputs("out.jsonl.rejects")}
        assert sorted(rejects) == [2, 4, 5, 6, 7, 9]
        for line, why, raw in (
            (2, "line 2 is not JSON", "{broken"),
            (4, "line 4 is JSON, but no object", "[1]"),
            (6, "has no field 'contentt'; did you mean content?", '{"contentt": "x"}'),
            (7, "content: expected a string", '{"content": 7}'),
        ):
            assert why in rejects[line]["why"]
            assert rejects[line]["raw"] == raw
        assert rejects[5]["why"] == "line 5 is not UTF-8; convert the file first, such as with iconv"
        assert rejects[5]["raw_base64"] == "//4="
        assert "6 lines are no inputs" in ended.err


async def test_a_rejected_line_can_be_mended_and_the_batch_resumed(ground: Any) -> None:
    async with ground() as g:
        g.write([text("a"), "{broken", text("c")])
        assert (await g.batch("--reject-file", str(g.folder / "bad"))).code == 0
        g.write([text("a"), text("b"), text("c")])
        ended = await g.batch("--resume", "--reject-file", str(g.folder / "bad"))
        assert ended.code == 0
        assert sorted(told["line"] for told in g.outputs()) == [1, 2, 3]
        assert g.files() == {"in.jsonl", "out.jsonl"}
        assert g.book.begun == Counter(a=1, b=1, c=1)


async def test_errors_are_done_again_when_it_is_resumed_and_outputs_are_not(ground: Any) -> None:
    async with ground() as g:
        g.write(text(f"t{n}") for n in range(20))
        g.book.fails = {"t3", "t7"}
        first = await g.batch()
        assert first.code == 0
        assert "2 NOT_THIS" in first.err
        errors = {told["line"]: told["error"] for told in g.outputs() if "error" in told}
        assert sorted(errors) == [4, 8]
        assert errors[4] == {"type": "NOT_THIS", "message": "not this one", "may_have_run": False, "sent": True}
        g.book.fails = set()
        keys = dict(g.book.keys)
        again = await g.batch("--resume", "--json")
        assert again.code == 0
        data = json.loads(again.out)
        assert (data["status"], data["succeeded"], data["lines"]["done_before"]) == ("success", 2, 18)
        assert data["lines"]["success_rate"] == 1.0
        assert Counter(g.book.begun.values()) == Counter({1: 18, 2: 2})
        assert keys == g.book.keys, "a line keeps its idempotency key"


async def test_nothing_is_left_to_do_where_all_is_done(ground: Any) -> None:
    async with ground() as g:
        g.write([text("a")])
        assert (await g.batch()).code == 0
        ended = await g.batch("--resume")
        assert ended.code == 0
        assert "nothing to do: 1 line has an output" in ended.err
        assert g.book.begun == Counter(a=1)


async def test_an_output_that_is_there_is_not_overwritten(ground: Any) -> None:
    async with ground() as g:
        g.write([text("a")])
        (g.folder / "out.jsonl").write_text("mine\n")
        ended = await g.batch()
        assert ended.code == 2
        assert "out.jsonl is there and not empty; go on with --resume, or write elsewhere" in ended.one_line()
        assert (g.folder / "out.jsonl").read_text() == "mine\n"
        assert "is no output of a batch" in (await g.batch("--resume")).one_line()
        assert not g.book.begun


async def test_kill_9_and_resume_does_nothing_twice_and_says_what_is_unknown(ground: Any) -> None:
    async with ground() as g:
        g.write(text(f"t{n}") for n in range(400))
        g.book.seconds = 0.02
        process = await g.start()
        await until(lambda: len(g.book.begun) > 60)
        process.kill()
        await process.wait()
        await until(lambda: g.server.agents["book"].admission.load().in_flight == 0)
        with (g.folder / "out.jsonl").open("a") as out:
            out.write('{"line": 9999, "outp')  # as if it had been in the middle of a line
        before = dict(g.book.begun)
        ended = await g.batch("--resume", "--json")
        assert ended.code == 0
        assert "ended in the middle of a line, which is cut off" in ended.err
        data = json.loads(ended.out)
        unknown = set(data["lines"]["unknown_lines"])
        assert 0 < len(unknown) <= 4 + 2 + 2, "what ran, what waited, and what was being written"
        assert set(g.book.begun.values()) == {1}, "an agent that must not run twice does not"
        done = {told["line"] for told in g.outputs()}
        assert done | unknown == set(range(1, 401))
        assert not done & unknown
        assert {f"t{line - 1}" for line in unknown} >= set(before) - {f"t{line - 1}" for line in done}

        repeated = await g.batch("--resume", "--repeat-unknown")
        assert repeated.code == 0
        assert {told["line"] for told in g.outputs()} == set(range(1, 401)), "all of them, where that is asked for"


async def test_kill_9_of_a_batch_for_an_agent_that_may_run_twice_leaves_nothing_unknown(ground: Any) -> None:
    async with ground() as g:
        g.write(text(f"t{n}") for n in range(200))
        g.twice.seconds = 0.02
        process = await g.start(agent="twice")
        await until(lambda: len(g.twice.begun) > 40)
        process.kill()
        await process.wait()
        assert (await g.batch("--resume", agent="twice")).code == 0
        lines = [told["line"] for told in g.outputs()]
        assert sorted(lines) == list(range(1, 201)), "each has one output"


async def test_what_was_sent_without_any_output_yet_is_not_sent_again_by_starting_over(ground: Any) -> None:
    async with ground() as g:
        g.write([text("a"), text("b")])
        (g.folder / "out.jsonl.started").write_text('{"batch": "b1", "target": "book"}\n1\n')
        ended = await g.batch()
        assert ended.code == 2
        assert "says that lines were sent before; go on with --resume, or remove it to begin anew" in ended.one_line()
        resumed = await g.batch("--resume")
        assert resumed.code == 0, "one of two is half"
        assert "1 line was sent before and nobody knows whether it was done" in resumed.err
        assert g.book.begun == Counter(b=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_keeps_what_is_finished_cancels_what_runs_and_says_how_to_go_on(
    ground: Any, number: signal.Signals
) -> None:
    async with ground() as g:
        g.write(text(f"t{n}") for n in range(400))
        g.twice.seconds = 0.02
        process = await g.start(agent="twice")
        await until(lambda: len(g.twice.begun) > 40)
        process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
        assert process.returncode == 130
        assert out == b""
        assert b"Traceback" not in err
        assert b"interrupted; the same command with --resume goes on from" in err
        assert all("output" in told for told in g.outputs())
        assert len(g.outputs()) > 30
        assert (await g.batch("--resume", agent="twice")).code == 0
        assert sorted(told["line"] for told in g.outputs()) == list(range(1, 401))


async def test_a_batch_that_times_out_keeps_what_is_finished_and_can_go_on(ground: Any) -> None:
    async with ground() as g:
        g.write(text(f"t{n}") for n in range(40))
        g.twice.seconds = 0.1
        ended = await g.batch("--timeout", "0.5", agent="twice")
        assert ended.code == 5
        assert "the batch's 0.5 s were over; the same command with --resume goes on" in ended.err
        outputs = [told for told in g.outputs() if "output" in told]
        assert 4 <= len(outputs) <= 24
        g.twice.seconds = 0.0
        assert (await g.batch("--resume", agent="twice")).code == 0


async def test_an_item_that_takes_too_long_is_an_error_of_its_own(ground: Any) -> None:
    async with ground() as g:
        g.write([text("a")])
        g.book.seconds = 5
        ended = await g.batch("--item-timeout", "0.2")
        assert ended.code == 1
        error = g.outputs()[0]["error"]
        assert (error["type"], error["may_have_run"]) == ("DEADLINE_EXCEEDED", True)
        again = await g.batch("--resume")
        assert "1 line was sent before" in again.err
        assert g.book.begun == Counter(a=1), "nobody knows how far it came, so it is left alone"


@pytest.mark.parametrize(
    ("flags", "code"), [((), 0), (("--strict",), 1), (("--min-success", "0.8"), 1), (("--min-success", "0.75"), 0)]
)
async def test_the_share_of_successes_is_the_exit_code(ground: Any, flags: tuple[str, ...], code: int) -> None:
    async with ground() as g:
        g.write(text(f"t{n}") for n in range(4))
        g.book.fails = {"t1"}
        assert (await g.batch(*flags)).code == code


async def test_pairs_go_to_the_agents_that_their_lines_name(ground: Any) -> None:
    async with ground() as g:
        one = {"content": "x", "operation": "sentiment"}
        lines: list[Any] = [
            {"agent": "book" if n % 2 else "twice", "input": one | {"content": f"t{n}"}} for n in range(20)
        ]
        lines += [{"agent": "nobody", "input": one}, {"input": one}, {"agent": "book", "input": {"contentt": 1}}]
        lines += [{"agent": "No Name", "input": one}]
        g.write(json.dumps(line) for line in lines)
        ended = await g.batch("--pairs", "--json", agent=None)
        assert ended.code == 0
        assert (len(g.book.begun), len(g.twice.begun)) == (10, 10)
        errors = {told["line"]: told["error"] for told in g.outputs() if "error" in told}
        assert {line: error["type"] for line, error in errors.items()} == {21: "UNKNOWN_AGENT", 24: "UNKNOWN_AGENT"}
        assert [told["line"] for told in g.outputs("out.jsonl.rejects")] == [22, 23]
        assert {told["agent"] for told in g.outputs() if "output" in told} == {"book", "twice"}
        data = json.loads(ended.out)
        assert data["by_target"]["book"]["items"] == 10


async def test_stdin_to_stdout(ground: Any) -> None:
    async with ground() as g:
        stdin = "\n".join(text(f"t{n}") for n in range(5)).encode()
        ended = await g.batch("--input-file", "-", "--output-file", "-", stdin=stdin + b"\nbroken")
        assert ended.code == 0
        assert sorted(json.loads(line)["line"] for line in ended.out.splitlines()) == [1, 2, 3, 4, 5]
        assert "rejected: line 6 is not JSON" in ended.err


async def test_whoever_stops_reading_ends_it(ground: Any) -> None:
    async with ground() as g:
        g.write(text(f"t{n}") for n in range(5000))
        process = await g.start("--output-file", "-")
        assert process.stdout is not None
        await process.stdout.readline()
        process.stdout._transport.close()  # what `| head -1` does
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 1


# -- what is wrong -----------------------------------------------------------


async def test_an_empty_batch_is_one_line(ground: Any) -> None:
    async with ground() as g:
        g.write(["", "  "])
        ended = await g.batch()
        assert ended.code == 2
        assert "in.jsonl has no line with an input; give it one at least" in ended.one_line()
        assert g.files() == {"in.jsonl"}, "nothing was made"


async def test_an_unknown_agent_is_told_with_the_nearest_there_is(ground: Any) -> None:
    async with ground() as g:
        g.write([text("a")])
        ended = await g.batch(agent="bok")
        assert ended.code == 3
        assert "no agent 'bok' is registered; did you mean book?" in ended.one_line()
        assert g.files() == {"in.jsonl"}


async def test_no_registry_is_one_line(ground: Any, atomesh: Callable[..., Any]) -> None:
    async with ground() as g:
        g.write([text("a")])
        path = str(g.folder / "in.jsonl")
        ended = await atomesh("batch", "book", "--registry", "127.0.0.1:1", "--input-file", path)
        assert ended.code == 4
        ended.one_line()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--output-file", "{in}"), "is the input itself; write the outputs elsewhere"),
        (("--reject-file", "{in}"), "is the input itself; write the rejects elsewhere"),
        (("--reject-file", "{out}"), "is the output file too; write the rejects elsewhere"),
        (("--output-file", "/nowhere/out"), "cannot be written: No such file or directory"),
        (("--output-file", "/tmp"), "cannot be written: Is a directory"),
    ],
)
async def test_files_that_are_in_each_others_way_are_told(ground: Any, flags: tuple[str, str], complaint: str) -> None:
    async with ground() as g:
        g.write([text("a")])
        path = flags[1].format(**{"in": g.folder / "in.jsonl", "out": g.folder / "out.jsonl"})
        ended = await g.batch(flags[0], path)
        assert ended.code == 2
        assert complaint in ended.one_line()
        assert (g.folder / "in.jsonl").read_text() == text("a") + "\n", "the input is as it was"
        assert not g.book.begun
