"""A contract is a pair of message types; its descriptors say all that is needed to speak it.

An agent that answers in pieces names a third, the type of its chunks. The hash
is SHA-256 over the names and the files of their closure, in a canonical order,
without comments and without descriptor.proto, which is the runtime's own and
grows with each release of protobuf: equal contracts hash equally in every
process, and one without chunks as it did before there were any.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from atomesh.core.errors import InvalidArgument, WrongType
from atomesh.v1 import agent_pb2

In = TypeVar("In", bound=Message)
Chunk = TypeVar("Chunk", bound=Message)
Out = TypeVar("Out", bound=Message)

TYPE_URL_PREFIX = "type.googleapis.com/"


@dataclass(frozen=True, slots=True)
class ContractDescriptor:
    """A contract as data: type names, and the serialized FileDescriptorSet of their closure."""

    input_type: str
    output_type: str
    descriptor_set: bytes
    hash: str
    chunk_type: str = ""
    """What comes before the output, any number of times; empty where nothing does."""

    def to_proto(self) -> agent_pb2.Contract:
        """The message that carries it."""
        return agent_pb2.Contract(
            input_type=self.input_type,
            output_type=self.output_type,
            descriptor_set=self.descriptor_set,
            chunk_type=self.chunk_type,
        )

    @classmethod
    def from_proto(cls, proto: agent_pb2.Contract) -> ContractDescriptor:
        """The contract that a message carries, checked to be whole.

        Raises:
            InvalidArgument: the descriptors do not parse, lack a file or do not define the types.
        """
        contract = cls(proto.input_type, proto.output_type, proto.descriptor_set, "", proto.chunk_type)
        contract.load()
        return replace(contract, hash=_hash(contract.types, proto.descriptor_set))

    @property
    def types(self) -> tuple[str, ...]:
        """The names of its types: input, output, and the chunks' where there are chunks."""
        names = (self.input_type, self.output_type)
        return (*names, self.chunk_type) if self.chunk_type else names

    def load(self) -> Contract[Message, Message]:
        """Message classes made from the descriptors alone; see `load_contract`."""
        return load_contract(self.input_type, self.output_type, self.descriptor_set, self.chunk_type)


@dataclass(frozen=True)
class Contract(Generic[In, Out]):
    """An agent's name with the message classes that it takes and gives.

    TEXT = Contract("text-processor", TextInput, TextOutput)
    output = await mesh.call(TEXT, TextInput(...))  # typed: TextOutput
    """

    agent: str
    input: type[In]
    output: type[Out]
    chunk: type[Message] | None = field(default=None, kw_only=True)
    """What comes before the output in a stream; None where nothing does, or the caller does not care."""

    @functools.cached_property
    def descriptor(self) -> ContractDescriptor:
        """The contract as data."""
        return describe(self.input, self.output, self.chunk)

    @property
    def input_type(self) -> str:
        """Full name of the input message."""
        return str(self.input.DESCRIPTOR.full_name)

    @property
    def output_type(self) -> str:
        """Full name of the output message."""
        return str(self.output.DESCRIPTOR.full_name)


@dataclass(frozen=True)
class StreamContract(Contract[In, Out], Generic[In, Chunk, Out]):
    """A contract with chunks, for typed streams.

    WRITER = StreamContract("writer", Topic, Essay, chunk=Paragraph)
    async with mesh.stream(WRITER, Topic(...)) as stream:  # typed: of Paragraph, then Essay
        ...
    """

    chunk: type[Chunk] = field(kw_only=True)


def describe(
    input_class: type[Message], output_class: type[Message], chunk_class: type[Message] | None = None
) -> ContractDescriptor:
    """The contract of two message classes, and of a third where there are chunks."""
    files: dict[str, Any] = {}
    given = (input_class, output_class) if chunk_class is None else (input_class, output_class, chunk_class)
    for message_class in given:
        _collect(message_class.DESCRIPTOR.file, files)
    descriptor_set = descriptor_pb2.FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(descriptor_set.file.add())
    names = tuple(str(message_class.DESCRIPTOR.full_name) for message_class in given)
    serialized = descriptor_set.SerializeToString(deterministic=True)
    return ContractDescriptor(names[0], names[1], serialized, _hash(names, serialized), "".join(names[2:]))


@functools.lru_cache(maxsize=256)
def load_contract(
    input_type: str, output_type: str, descriptor_set: bytes, chunk_type: str = ""
) -> Contract[Message, Message]:
    """Message classes made from descriptors alone, in a pool of their own.

    Nothing of it touches the process's default pool, so contracts of strangers
    that share a file name or a message name do not meet.

    Raises:
        InvalidArgument: the descriptors do not parse, lack a file or do not define the types.
    """
    pool = descriptor_pool.DescriptorPool()
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set)
        for file in files.file:
            pool.Add(file)
        found = [_find(pool, name) for name in (input_type, output_type, *filter(None, (chunk_type,)))]
    except (DecodeError, TypeError, KeyError, ValueError) as error:
        raise InvalidArgument(
            f"the contract {input_type} -> {output_type} is not whole: {_line(error)}; "
            "send all files that both types need, dependencies first"
        ) from None
    taken, given, *chunks = (message_factory.GetMessageClass(descriptor) for descriptor in found)
    return Contract("", taken, given, chunk=chunks[0] if chunks else None)


def typed_service(contract: Contract[Any, Any]) -> str:
    """The gRPC service that is the contract's typed door; empty where its file declares none.

    One whose `Execute` takes the input and returns the output.
    """
    taken, given = contract.input.DESCRIPTOR, contract.output.DESCRIPTOR
    for service in taken.file.services_by_name.values():
        method = service.methods_by_name.get("Execute")
        if method is None or method.client_streaming or method.server_streaming:
            continue
        if method.input_type is taken and method.output_type.full_name == given.full_name:
            return str(service.full_name)
    return ""


def known_class(full_name: str) -> type[Message] | None:
    """The class that this process has for a message type; None where it imported none."""
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(full_name)
    except KeyError:
        return None
    return message_factory.GetMessageClass(descriptor)


def pack(message: Message) -> any_pb2.Any:
    """The message in an Any."""
    packed = any_pb2.Any()
    pack_into(packed, message)
    return packed


def pack_into(packed: any_pb2.Any, message: Message) -> None:
    """Puts the message into an Any in place; one handed to another message's constructor is copied."""
    packed.type_url = TYPE_URL_PREFIX + message.DESCRIPTOR.full_name
    packed.value = message.SerializeToString()


def unpack(packed: any_pb2.Any, expected: type[Out]) -> Out:
    """The message in an Any, which must be of the expected type; a type URL is never fetched.

    Raises:
        WrongType: it is of another type, or does not parse.
    """
    name = packed.type_url.rpartition("/")[2]
    if name != expected.DESCRIPTOR.full_name:
        raise WrongType(f"the message is of type {name or '(none)'!s:.200}; expected {expected.DESCRIPTOR.full_name}")
    try:
        return expected.FromString(packed.value)
    except DecodeError:
        raise WrongType(f"{len(packed.value)} bytes that do not parse as {name}; check the sender's contract") from None


def descriptor_files(descriptor_set: bytes) -> list[descriptor_pb2.FileDescriptorProto]:
    """The files of a serialized FileDescriptorSet."""
    return list(descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file)


def _find(pool: descriptor_pool.DescriptorPool, name: str) -> Descriptor:
    return pool.FindMessageTypeByName(name)


def _collect(file: Any, files: dict[str, Any]) -> None:
    """Adds the file behind everything that it imports."""
    if file.name in files:
        return
    for dependency in file.dependencies:
        _collect(dependency, files)
    files[file.name] = file


def _hash(types: tuple[str, ...], descriptor_set: bytes) -> str:
    own = (file for file in descriptor_files(descriptor_set) if file.name != descriptor_pb2.DESCRIPTOR.name)
    files = sorted((file.name, canonical(file)) for file in own)
    digest = hashlib.sha256("".join(f"{name}\n" for name in types).encode())
    for name, content in files:
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def canonical(file: descriptor_pb2.FileDescriptorProto) -> bytes:
    """The file as bytes that are the same whoever compiled it: without comments and default JSON names."""
    bare = descriptor_pb2.FileDescriptorProto()
    bare.CopyFrom(file)
    bare.ClearField("source_code_info")
    for message in bare.message_type:
        _drop_default_json_names(message)
    return bare.SerializeToString(deterministic=True)


def _drop_default_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    """protoc writes them into descriptor sets and leaves them out of generated code; both mean the same."""
    for member in message.field:
        if member.json_name == default_json_name(member.name):
            member.ClearField("json_name")
    for nested in message.nested_type:
        _drop_default_json_names(nested)


def default_json_name(name: str) -> str:
    """The JSON name of a field that states none: `maxSentences` of `max_sentences` (protobuf's ToJsonName)."""
    first, *others = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in others)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
