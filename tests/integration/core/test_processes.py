"""What a contract's hash is in other processes, and made by other tools."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2

from atomesh.core.compatibility import incompatibility
from atomesh.core.contract import ContractDescriptor, describe
from atomesh.text.v1 import text_pb2
from atomesh.v1 import agent_pb2

TEXT = describe(text_pb2.TextInput, text_pb2.TextOutput)
PROTOS = Path(__file__).resolve().parents[3] / "protos"

HASH_OF_CODE = """
from atomesh.core.contract import describe
from atomesh.text.v1 import text_pb2
print(describe(text_pb2.TextInput, text_pb2.TextOutput).hash)
"""
HASH_OF_BYTES = """
import sys
from atomesh.core.contract import ContractDescriptor
from atomesh.v1 import agent_pb2
print(ContractDescriptor.from_proto(agent_pb2.Contract.FromString(sys.stdin.buffer.read())).hash)
"""


@pytest.mark.parametrize("script", [HASH_OF_CODE, HASH_OF_BYTES], ids=["generated code", "bytes alone"])
@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_a_hash_is_the_same_in_every_process(script: str, seed: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", script],
        input=TEXT.to_proto().SerializeToString(),
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert asked.stdout.decode().strip() == TEXT.hash


def test_a_hash_is_the_same_for_a_descriptor_set_of_protoc(tmp_path: Path) -> None:
    imports = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2, validate_pb2):
        module.DESCRIPTOR.CopyToProto(imports.file.add())
    (tmp_path / "imports.binpb").write_bytes(imports.SerializeToString())
    out = tmp_path / "text.binpb"
    command = [
        *(
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--descriptor_set_in={tmp_path / 'imports.binpb'}",
            f"-I{PROTOS}",
        ),
        *("--include_imports", "--include_source_info", f"--descriptor_set_out={out}", "atomesh/text/v1/text.proto"),
    ]
    subprocess.run(command, check=True, timeout=60)
    proto = agent_pb2.Contract(
        input_type=TEXT.input_type, output_type=TEXT.output_type, descriptor_set=out.read_bytes()
    )
    other = ContractDescriptor.from_proto(proto)
    assert incompatibility(TEXT, other) is None
    assert other.hash == TEXT.hash, "comments, JSON names and the runtime's descriptor.proto are no part of a contract"
