"""Compiles a folder of `.proto` files to Python with the flags that they need.

`buf/validate/validate.proto` is on no disk: the protovalidate wheel carries its
descriptor only. So protoc gets it, beside the well-known types, as a
FileDescriptorSet (`--descriptor_set_in`), and nothing has to be downloaded.

Needs grpcio-tools and protovalidate and imports nothing of atomesh, so that
`make generate` can run it in an environment of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

VALIDATE = "buf/validate/validate.proto"
_WELL_KNOWN = ("any", "duration", "descriptor", "empty", "field_mask", "struct", "timestamp", "wrappers")


class CompileError(Exception):
    """protoc refused; the message is what it said, one line per complaint."""


def base_descriptors() -> bytes:
    """The serialized FileDescriptorSet of validate.proto and the well-known types."""
    import importlib

    from google.protobuf import descriptor_pb2, descriptor_pool
    from protovalidate._gen.buf.validate import validate_pb

    files = descriptor_pb2.FileDescriptorSet()
    for name in _WELL_KNOWN:
        importlib.import_module(f"google.protobuf.{name}_pb2")
        found = descriptor_pool.Default().FindFileByName(f"google/protobuf/{name}.proto")
        found.CopyToProto(files.file.add())
    files.file.add().MergeFromString(validate_pb.desc().proto.to_binary())
    return files.SerializeToString(deterministic=True)


def compile_tree(source: Path, target: Path, *, stubs: str = "pyi", rules: bool = False) -> list[Path]:
    """Compiles every `.proto` below `source` into `target`; the written files, sorted.

    `stubs` is `pyi` (protoc's own) or `mypy` (mypy-protobuf's, which cover the
    gRPC code too). `rules` compiles validate.proto itself as well. All is
    written aside first: when protoc refuses, `target` is as it was.

    Raises:
        CompileError: there is no `.proto`, or protoc refused one.
    """
    protos = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.proto"))
    if not protos:
        raise CompileError(f"no .proto file below {source}")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="atomesh-protoc-") as aside:
        out = Path(aside, "out")
        out.mkdir()
        descriptors = Path(aside, "base.binpb")
        descriptors.write_bytes(base_descriptors())
        _protoc(source, out, descriptors, [*protos, *([VALIDATE] if rules else [])], stubs)
        written = sorted(path for path in out.rglob("*") if path.is_file())
        for path in written:
            destination = target / path.relative_to(out)
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)
        return [target / path.relative_to(out) for path in written]


def compile_set(source: Path, name: str) -> bytes:
    """The serialized FileDescriptorSet of one `.proto` below `source` and of all that it imports, dependencies first.

    Raises:
        CompileError: protoc refused it.
    """
    with tempfile.TemporaryDirectory(prefix="atomesh-protoc-") as aside:
        descriptors, out = Path(aside, "base.binpb"), Path(aside, "out.binpb")
        descriptors.write_bytes(base_descriptors())
        _run(source, descriptors, [f"--descriptor_set_out={out}", "--include_imports", name])
        return out.read_bytes()


def folded(complaints: str) -> str:
    """protoc's first complaint and how many follow: one line, with the file and place."""
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    return lines[0] + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")


def _protoc(source: Path, out: Path, descriptors: Path, names: Sequence[str], stubs: str) -> None:
    flags = [f"--python_out={out}", f"--grpc_python_out={out}"]
    # mypy-protobuf runs twice: once for messages, once for the gRPC code.
    flags += [f"--mypy_out={out}", f"--mypy_grpc_out={out}"] if stubs == "mypy" else [f"--pyi_out={out}"]
    _run(source, descriptors, [*flags, *names])


def _run(source: Path, descriptors: Path, arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={descriptors}", f"-I{source}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        raise CompileError(done.stderr.strip() or f"protoc ended with {done.returncode}")


def _environment() -> dict[str, str]:
    """The environment with this interpreter's scripts in front, where plug-ins are."""
    scripts = os.path.dirname(sys.executable)
    return {**os.environ, "PATH": scripts + os.pathsep + os.environ.get("PATH", "")}


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except CompileError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: the generator needs {error.name}; install grpcio-tools, mypy-protobuf and protovalidate")


def regenerate(protos: Path, generated: Path) -> None:
    """`make generate`: the whole of `generated/` anew, nothing stale left in it."""
    with tempfile.TemporaryDirectory(prefix="atomesh-generate-") as aside:
        fresh = Path(aside)
        compile_tree(protos, fresh, stubs="mypy", rules=True)
        for grpc_code in fresh.rglob("*_pb2_grpc.py"):
            if "add_generic_rpc_handlers" not in grpc_code.read_text():
                grpc_code.unlink()  # a file without services needs none
                grpc_code.with_suffix(".pyi").unlink(missing_ok=True)
        for leaf in {path.parent for path in fresh.rglob("*_pb2.py")}:
            (leaf / "__init__.py").touch()
            (leaf / "py.typed").touch()
        for old in [path for path in generated.iterdir() if path.is_dir()] if generated.exists() else []:
            shutil.rmtree(old)
        shutil.copytree(fresh, generated, dirs_exist_ok=True)


if __name__ == "__main__":
    with _one_line_errors():
        regenerate(Path(sys.argv[1]), Path(sys.argv[2]))
