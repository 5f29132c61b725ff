"""The rules that keep one namespace whole over several source roots."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCE_ROOTS: list[str] = CONFIG["tool"]["hatch"]["build"]["dev-mode-dirs"]


def project_files() -> list[Path]:
    """Every file that is in the repository or about to be."""
    # A checkout may belong to another user than the one who tests it.
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    return [path for name in listed if name and (path := ROOT / name).is_file()]


def test_every_list_of_source_roots_agrees() -> None:
    tool = CONFIG["tool"]
    assert tool["mypy"]["mypy_path"] == SOURCE_ROOTS
    assert tool["pyright"]["extraPaths"] == SOURCE_ROOTS
    packages = [f"{root}/atomesh" for root in SOURCE_ROOTS] + ["generated/buf"]
    assert tool["hatch"]["build"]["targets"]["wheel"]["packages"] == packages


def test_every_folder_with_a_portion_of_the_namespace_is_in_the_lists() -> None:
    holders = sorted({path.relative_to(ROOT).parts[0] for path in ROOT.glob("*/atomesh/**/*.py")})
    assert holders == sorted(SOURCE_ROOTS), "a source root that no list names is in no wheel"


def namespaces() -> list[str]:
    """What several roots, or several contracts, share: atomesh, buf and every generated folder without code."""
    generated = ROOT / "generated"
    shared = {path.relative_to(generated).as_posix() for path in generated.glob("**/*") if any(path.glob("*/*_pb2.py"))}
    return sorted({"atomesh", "buf"} | {name for name in shared if not any((generated / name).glob("*_pb2.py"))})


@pytest.mark.parametrize("namespace", namespaces())
def test_nobody_owns_a_namespace(namespace: str) -> None:
    owners = [str(path.relative_to(ROOT)) for path in ROOT.glob(f"*/{namespace}/__init__.py")]
    assert owners == [], "an __init__.py here would hide every other portion"


def test_the_layers_of_import_linter_hold_every_component() -> None:
    contracts = {contract["name"]: contract for contract in CONFIG["tool"]["importlinter"]["contracts"]}
    components = {f"atomesh.{root}" for root in SOURCE_ROOTS if root not in ("testing", "generated")}
    components |= {f"atomesh.{path.name}" for path in (ROOT / "generated" / "atomesh").iterdir() if path.is_dir()}
    layered = {name for layer in contracts["layers"]["layers"] for name in layer.split(" | ")}
    assert components <= layered, "a component outside of the layers may import anything"


def leaves() -> list[Path]:
    """The outermost regular packages: what a type checker looks for py.typed in."""
    packages = {path.parent for root in SOURCE_ROOTS for path in (ROOT / root).rglob("__init__.py")}
    return sorted(package for package in packages if package.parent not in packages)


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: str(leaf.relative_to(ROOT)))
def test_every_portion_is_typed(leaf: Path) -> None:
    assert (leaf / "py.typed").exists(), "without py.typed its types are ignored by whoever installs it"


# `agents/work/` holds one and is not meant: a path begins where no name ends.
FOREIGN = re.compile(r"(?<![\w.*-])/(root|work|home/\w+)/|\.\./shared")


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    found = []
    for path in project_files():
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1):
            if match := FOREIGN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('Path("/ro' + 'ot/x")', True),
        ("cd /ho" + "me/ann/x", True),
        ("agents/work/plan", False),
        ("/ro" + "otless", False),
    ],
)
def test_the_search_for_foreign_paths_finds_them(line: str, found: bool) -> None:
    assert bool(FOREIGN.search(line)) is found
