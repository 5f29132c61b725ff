"""The message types of one plan, in one pool, and those that a pipeline makes for itself.

Contracts come as descriptors, each from another process. Two may bring the same
file: of equal ones one is taken, of different ones the larger, since additive
change is all that a package allows. Where this process has all of the files and
they are the same, its own generated classes serve, so that nothing is converted.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message

from atomesh.core.contract import ContractDescriptor, canonical, descriptor_files
from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.record import RunTypes

PACKAGE = "atomesh.pipelines"
_OURS = ("google/protobuf/", "buf/validate/")  # each release of a library brings its own; all say the same
_RESERVED = range(19_000, 20_000)  # field numbers that protobuf keeps for itself


class TypeSpace:
    """Finds message classes by full name."""

    def __init__(
        self, contracts: Iterable[ContractDescriptor], own: descriptor_pb2.FileDescriptorProto | None = None
    ) -> None:
        """`own` is a file with messages of the pipeline's own, whose imports are among the contracts' files.

        Raises:
            InvalidArgument: the files do not fit together.
        """
        self._files = files = _merged(contracts)
        self._own = own
        default = descriptor_pool.Default()
        if own is None and all(_known(default, file) for file in files.values()):
            self.pool = default
            return
        self.pool = descriptor_pool.DescriptorPool()
        added: set[str] = set()
        try:
            for name in list(files):
                self._add(name, files, added)
            if own is not None:
                self._add_known(own.dependency, added)
                self.pool.Add(own)
        except (TypeError, KeyError) as error:
            raise InvalidArgument(
                f"the agents' contracts do not fit into one plan: {' '.join(str(error).split())[:300]}; "
                "their packages share a file name and mean different messages by it"
            ) from None

    def find(self, full_name: str) -> Descriptor | None:
        """The message of that name; None where no contract brings it."""
        try:
            return self.pool.FindMessageTypeByName(full_name)
        except KeyError:
            return None

    def find_enum(self, full_name: str) -> EnumDescriptor | None:
        """The enum of that name; None where no contract brings it."""
        try:
            return self.pool.FindEnumTypeByName(full_name)
        except KeyError:
            return None

    def message_class(self, full_name: str) -> type[Message]:
        """The class of a message that is there."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(full_name))

    def described(self) -> RunTypes:
        """All of it as data."""
        files = descriptor_pb2.FileDescriptorSet()
        added: set[str] = set()

        def collect(name: str) -> None:
            if name not in added and name in self._files:
                added.add(name)
                for dependency in self._files[name].dependency:
                    collect(dependency)
                files.file.add().CopyFrom(self._files[name])

        for name in self._files:
            collect(name)
        if self._own is not None:
            files.file.add().CopyFrom(self._own)
        serialized = files.SerializeToString(deterministic=True)
        return RunTypes(hashlib.sha256(serialized).hexdigest(), serialized)

    def _add(self, name: str, files: Mapping[str, descriptor_pb2.FileDescriptorProto], added: set[str]) -> None:
        """Adds the file behind everything that it imports."""
        if name in added or name not in files:
            return
        added.add(name)
        for dependency in files[name].dependency:
            self._add(dependency, files, added)
        self.pool.Add(files[name])

    def _add_known(self, names: Iterable[str], added: set[str]) -> None:
        """Adds files that no contract brings and this process has, such as that of Timestamp."""
        for name in names:
            if name not in added:
                added.add(name)
                file = descriptor_pb2.FileDescriptorProto()
                descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
                self._add_known(file.dependency, added)
                self.pool.Add(file)


def _merged(contracts: Iterable[ContractDescriptor]) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for contract in contracts:
        for file in descriptor_files(contract.descriptor_set):
            known = files.get(file.name)
            if known is None or (not file.name.startswith(_OURS) and len(canonical(file)) > len(canonical(known))):
                files[file.name] = file
    return files


def _known(pool: descriptor_pool.DescriptorPool, file: descriptor_pb2.FileDescriptorProto) -> bool:
    """Whether the pool has this very file."""
    try:
        found = pool.FindFileByName(file.name)
    except KeyError:
        return False
    own = descriptor_pb2.FileDescriptorProto()
    found.CopyToProto(own)
    return file.name.startswith(_OURS) or canonical(own) == canonical(file)


def own_package(pipeline: str) -> str:
    """The package of the messages that a pipeline makes for itself."""
    word = "".join(c if c.isalnum() else "_" for c in pipeline)
    return f"{PACKAGE}.{word if word[0].isalpha() else f'p{word}'}"


def field_number(name: str, taken: set[int]) -> int:
    """A field's number, from its name: it stays what it is when other fields come and go."""
    number = zlib.crc32(name.encode()) % 2**28 + 1
    while number in taken or number in _RESERVED:
        number = number % 2**28 + 1
    taken.add(number)
    return number
