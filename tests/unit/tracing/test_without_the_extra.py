"""Where OpenTelemetry is not installed, nothing misses it but whoever asks for spans."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
_EVERYTHING = """
import asyncio
from google.protobuf.wrappers_pb2 import StringValue
from atomesh import agents, balancer, cli, core, pipelines, registry, rpc
from atomesh.core import Context, Contract
from atomesh.balancer import CallOptions

class Echo(agents.Agent[StringValue, StringValue]):
    name = "echo"
    async def execute(self, input, context):
        return StringValue(value=context.traceparent)

async def main():
    async with agents.AgentServer(Echo()) as server:
        for mux in (True, False):
            async with balancer.Client(endpoints=[server.address], mux=mux) as mesh:
                options = CallOptions(context=Context(traceparent="as it came"))
                print((await mesh.execute("echo", StringValue(), options)).output.value)

asyncio.run(main())
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
_ASKED = """
from atomesh.cli import main
sys.exit(main(sys.argv[1:]))
"""


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", _WITHOUT + code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", **environment},
        check=False,
    )


def test_calls_go_and_a_traceparent_flows_without_it() -> None:
    ended = python(_EVERYTHING)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["as it came", "as it came", "[]"]


@pytest.mark.parametrize(
    "verb",
    [
        ("serve", "text-processor"),
        ("call", "text-processor", "{}", "--endpoint", "127.0.0.1:1"),
    ],
    ids=["serve", "call"],
)
def test_whoever_asks_for_spans_is_told_what_to_install(verb: tuple[str, ...]) -> None:
    ended = python(_ASKED, *verb, "--otlp-endpoint", "127.0.0.1:4317")
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: spans are to go to http://127.0.0.1:4317 (flag)")
    assert 'pip install "atomesh[tracing]"' in line


def test_a_variable_that_is_set_for_all_programs_keeps_none_from_starting() -> None:
    ended = python(
        _ASKED,
        "call",
        "text-processor",
        '{"content": "x"}',
        "--endpoint",
        "127.0.0.1:1",
        "--log-level=warning",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4317",
    )
    assert ended.returncode == 4, "it went on, and met what it meets without the variable"
    told = json.loads(ended.stderr.splitlines()[0])
    assert (told["level"], told["logger"]) == ("warning", "atomesh.tracing")
    assert 'pip install "atomesh[tracing]"`; going on without' in told["message"]
