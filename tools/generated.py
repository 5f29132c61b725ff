"""`make check-generated`: is generated/ what protos/ compile to, file by file?

The code is generated anew beside the tree and compared, so it needs no git and
does not mind uncommitted work; changed, missing and surplus files all count.
Where the pinned generator cannot be installed (no wheel for this Python, no
network) it says so and passes, but not with CI=true.
"""

import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENV = ROOT / ".cache" / "generate"


def main() -> int:
    setup = [sys.executable, str(ROOT / "tools" / "env.py"), "--bare", str(ENV), "generate"]
    made = subprocess.run(setup, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    required = os.environ.get("CI") == "true"
    if not made.returncode or required:
        print(made.stdout, end="")
    if made.returncode:
        verdict = "CI=true requires it" if required else "generated/ was NOT checked; CI will"
        print(f"check-generated: the pinned generator cannot be installed here; {verdict}")
        return int(required)
    with tempfile.TemporaryDirectory(prefix="atomesh-check-") as aside:
        fresh = Path(aside, "generated")
        compiler = ROOT / "cli" / "atomesh" / "cli" / "_protoc.py"
        compiled = subprocess.run([ENV / "bin" / "python", compiler, ROOT / "protos", fresh], check=False)
        if compiled.returncode:
            return compiled.returncode
        found = differences(fresh, ROOT / "generated")
    for line in found:
        print(line)
    print(
        f"check-generated: {len(found)} files differ from what protos/ compile to; run `make generate`"
        if found
        else "check-generated: generated/ is what protos/ compile to"
    )
    return int(bool(found))


def differences(fresh: Path, kept: Path) -> list[str]:
    """One line for each file of `kept` that is not as in `fresh`."""
    new, old = files(fresh), files(kept)
    changed = {name for name in new & old if not filecmp.cmp(fresh / name, kept / name, shallow=False)}
    return sorted(
        [f"missing: generated/{name}" for name in new - old]
        + [f"surplus: generated/{name}" for name in old - new]
        + [f"changed: generated/{name}" for name in changed]
    )


def files(below: Path) -> set[str]:
    """All files but Python's own caches, relative."""
    every = (path.relative_to(below) for path in below.rglob("*") if path.is_file())
    return {path.as_posix() for path in every if "__pycache__" not in path.parts}


if __name__ == "__main__":
    sys.exit(main())
