"""`python benchmarks/go/stubs.py`: writes echov1/, the Go code of the echo's contract; needs go, which fetches the plug-ins.

The contract imports buf/validate/validate.proto for its rules, whose Go package
is served by buf.build alone. The bare peers check no rules in any language, so
the code is made without them.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from benchmarks._harness import prepare

MODULE = "example.com/bench"  # as in go.mod, which also pins the plug-ins
PLUGINS = ("google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc")


def bare_contract() -> descriptor_pb2.FileDescriptorProto:
    """The contract without the rules and without the import that they need."""
    from bench.v1 import echo_pb2

    file = descriptor_pb2.FileDescriptorProto.FromString(echo_pb2.DESCRIPTOR.serialized_pb)
    file.dependency.remove("buf/validate/validate.proto")
    for message in file.message_type:
        for field in message.field:
            field.ClearField("options")
    return file


def main() -> None:
    """Builds the plug-ins and runs protoc with each."""
    prepare()
    contract = bare_contract()
    with tempfile.TemporaryDirectory() as aside:
        subprocess.run(["go", "build", "-o", aside + os.sep, *PLUGINS], cwd=HERE, check=True)
        descriptors = Path(aside, "contract.binpb")
        descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=[contract]).SerializeToString())
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={descriptors}"]
        for plugin in ("go", "go-grpc"):
            command += [f"--plugin=protoc-gen-{plugin}={Path(aside, f'protoc-gen-{plugin}')}"]
            command += [f"--{plugin}_out={HERE}", f"--{plugin}_opt=module={MODULE},M{contract.name}={MODULE}/echov1"]
        subprocess.run([*command, contract.name], check=True)


if __name__ == "__main__":
    main()
