"""`make proto-lint` and `make proto-breaking`: buf's judgement of protos/.

buf cannot resolve buf/validate/validate.proto by itself: the file is on no disk
here, and fetching it takes a network. It does read images, which are file
descriptor sets, so protoc builds one (with the sources' comments and with all
imports, or buf refuses it) and buf judges the part of it that is ours.
"""

from __future__ import annotations

import io
import runpy
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
BUF = Path(sys.executable).with_name("buf")
GIT = ["git", "-c", "safe.directory=*"]  # a checkout may belong to another user than the one who checks it
COMPILER = runpy.run_path(str(ROOT / "cli" / "atomesh" / "cli" / "_protoc.py"))


class Refused(Exception):
    """A tool said no; the message is what it said."""


def image(protos: Path, out: Path) -> Path:
    """Compiles all of `protos` into the image `out`, imports included."""
    base = out.with_suffix(".base")
    base.write_bytes(COMPILER["base_descriptors"]())
    names = sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))
    flags = [f"--descriptor_set_in={base}", f"-I{protos}", "--include_source_info", "--include_imports"]
    run(sys.executable, "-m", "grpc_tools.protoc", *flags, f"--descriptor_set_out={out}", *names)
    return out


def lint(aside: Path) -> str:
    """STANDARD and COMMENTS, with the exceptions that buf.yaml justifies, and buf's layout."""
    # Not the project's imports: descriptor.proto would not pass either.
    run(BUF, "lint", image(PROTOS, aside / "now.binpb"), *ours(PROTOS), "--config", ROOT / "buf.yaml")
    run(BUF, "format", "--diff", "--exit-code", PROTOS)
    return "buf lint: STANDARD and COMMENTS hold for every file in protos/"


def breaking(aside: Path) -> str:
    """WIRE_JSON against protos/ as of the last release tag (v1.2.3)."""
    release = last_release()
    if release is None:
        return "buf breaking: there is no release tag yet, so nothing that could be broken"
    archive = subprocess.run(
        [*GIT, "archive", "--format=zip", release, "protos"], cwd=ROOT, check=True, capture_output=True
    )
    with zipfile.ZipFile(io.BytesIO(archive.stdout)) as old:
        old.extractall(aside)
    before = image(aside / "protos", aside / "before.binpb")
    now = image(PROTOS, aside / "now.binpb")
    run(BUF, "breaking", now, "--against", before, *ours(aside / "protos"), "--config", ROOT / "buf.yaml")
    return f"buf breaking: protos/ understand everything that {release} wrote, in binary and JSON"


def last_release() -> str | None:
    """The newest release tag behind this commit; None without one, or without git."""
    command = [*GIT, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"]
    found = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    return found.stdout.strip() or None


def ours(protos: Path) -> list[str]:
    """buf's flags for the files of `protos`, without what they import."""
    return [flag for folder in sorted(protos.iterdir()) if folder.is_dir() for flag in ("--path", folder.name)]


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Refused((done.stdout + done.stderr).strip() or f"{command[0]} ended with {done.returncode}")


def main(verb: str) -> None:
    with tempfile.TemporaryDirectory(prefix="atomesh-image-") as aside:
        try:
            print({"lint": lint, "breaking": breaking}[verb](Path(aside)))
        except Refused as refused:
            sys.exit(str(refused))


if __name__ == "__main__":
    main(sys.argv[1])
