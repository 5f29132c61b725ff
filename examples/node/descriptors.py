"""`python descriptors.py FILE`: the text agent's contract, and Google's error details, as a FileDescriptorSet.

Where Python is not at hand, `grpcurl -protoset-out` asks a running agent for
its contract; the error details are in the package googleapis-common-protos of
every language.
"""

import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2

from atomesh.core import Contract
from atomesh.text.v1.text_pb2 import TextInput, TextOutput


def descriptor_set() -> bytes:
    contract = Contract("text-processor", TextInput, TextOutput).descriptor.descriptor_set
    files = descriptor_pb2.FileDescriptorSet.FromString(contract)
    known = {file.name for file in files.file}
    for module in (error_details_pb2, status_pb2):
        for file in (*module.DESCRIPTOR.dependencies, module.DESCRIPTOR):
            if file.name not in known:
                known.add(file.name)
                file.CopyToProto(files.file.add())
    return files.SerializeToString()


def write(path: Path) -> Path:
    path.write_bytes(descriptor_set())
    return path


if __name__ == "__main__":
    write(Path(sys.argv[1]))
