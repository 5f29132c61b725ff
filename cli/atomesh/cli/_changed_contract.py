"""A contract from a file: a `.proto`, or the serialized FileDescriptorSet of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atomesh.cli._compiling import compiling, package_of
from atomesh.cli._errors import UsageMistake

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    from atomesh.core import ContractDescriptor


def read_contract(file: Path, proto_path: str, types: tuple[str, str, str]) -> ContractDescriptor:
    """The contract of these types (input, output, chunks or none) as the file has it.

    Raises:
        CliError: the file cannot be read or compiled, or does not define a type.
    """
    from atomesh.core import ContractDescriptor
    from atomesh.v1 import agent_pb2

    files = _files(file, proto_path)
    defined = {f"{each.package}.{message.name}".lstrip(".") for each in files.file for message in each.message_type}
    for name, flag in zip(types, ("--input-type", "--output-type", "--chunk-type"), strict=True):
        if name and name not in defined and not any(name.startswith(f"{outer}.") for outer in defined):
            own = sorted(f"{files.file[-1].package}.{each.name}".lstrip(".") for each in files.file[-1].message_type)
            listed = ", ".join(own[:8]) or "none"
            raise UsageMistake(f"{file} does not define {name}; its messages: {listed}; name the type with {flag}")
    return ContractDescriptor.from_proto(
        agent_pb2.Contract(
            input_type=types[0],
            output_type=types[1],
            chunk_type=types[2],
            descriptor_set=files.SerializeToString(deterministic=True),
        )
    )


def _files(file: Path, proto_path: str) -> FileDescriptorSet:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.message import DecodeError

    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageMistake(f"cannot read {file}: {error.strerror or error}") from None
    if file.suffix == ".proto":
        content = _compiled(file, Path(proto_path) if proto_path else _root(file, content))
    try:
        files = FileDescriptorSet.FromString(content)
    except DecodeError:
        files = FileDescriptorSet()
    if not files.file:
        raise UsageMistake(f"{file} is no .proto and no FileDescriptorSet; protoc --include_imports -o makes one")
    return files


def _root(file: Path, content: bytes) -> Path:
    """Where imports start: the folder above the package's, where the file lies as its package says."""
    package = package_of(content)
    words = package.split(".") if package else []
    folder = file.resolve().parent
    inside = bool(words) and list(folder.parts[-len(words) :]) == words
    return folder.parents[len(words) - 1] if inside else folder


def _compiled(file: Path, root: Path) -> bytes:
    from atomesh.cli._protoc import compile_set

    try:
        name = file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise UsageMistake(
            f"{file} is not below {root}; give the folder that imports start at as --proto-path"
        ) from None
    with compiling():
        return compile_set(root, name)
