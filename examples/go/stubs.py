"""`python stubs.py`: writes textv1/, the Go code of the text agent's contract; needs go, which fetches the plug-ins.

The contract imports buf/validate/validate.proto for its rules, and the Go
package of that file is served by buf.build alone. The endpoint enforces the
rules whoever calls, so the code is made from the contract without them, and
the Go module proxy has all the rest. grpcio-tools brings protoc.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

from atomesh.text.v1 import text_pb2

HERE = Path(__file__).parent
MODULE = "example.com/textclient"  # as in go.mod, which also pins the plug-ins
PLUGINS = ("google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc")


def bare_contract() -> descriptor_pb2.FileDescriptorProto:
    """The contract without the rules and without the import that they need."""
    file = descriptor_pb2.FileDescriptorProto.FromString(text_pb2.DESCRIPTOR.serialized_pb)
    file.dependency.remove("buf/validate/validate.proto")
    for message in file.message_type:
        message.ClearField("options")
        for field in message.field:
            field.ClearField("options")
    return file


def main() -> None:
    contract = bare_contract()
    with tempfile.TemporaryDirectory() as aside:
        subprocess.run(["go", "build", "-o", aside + os.sep, *PLUGINS], cwd=HERE, check=True)
        descriptors = Path(aside, "contract.binpb")
        descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=[contract]).SerializeToString())
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={descriptors}"]
        for plugin in ("go", "go-grpc"):
            command += [f"--plugin=protoc-gen-{plugin}={Path(aside, f'protoc-gen-{plugin}')}"]
            command += [f"--{plugin}_out={HERE}", f"--{plugin}_opt=module={MODULE},M{contract.name}={MODULE}/textv1"]
        subprocess.run([*command, contract.name], check=True)


if __name__ == "__main__":
    main()
