"""`make examples`: runs `main.py` of every folder in examples/, and each must end with 0.

An example starts what it needs (a registry, an agent), shows its point and
stops it all again, so that running it is a test of its README too.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Seconds. All take under ten but examples/go, which compiles gRPC the first
# time: 20 on two free cores, 45 on busy ones. Longer is a hang.
PATIENCE = 180


def main() -> int:
    examples = sorted(path for path in (ROOT / "examples").glob("*") if path.is_dir() and path.name != "__pycache__")
    failed = [example.name for example in examples if not runs(example)]
    print(
        f"examples: {len(examples) - len(failed)} of {len(examples)} ran" + "".join(f"; {it} failed" for it in failed)
    )
    return int(bool(failed) or not examples)


def runs(example: Path) -> bool:
    """Runs one from its own folder, as its README says; whether it ended well."""
    print(f"--- examples/{example.name}", flush=True)
    try:
        return not subprocess.run([sys.executable, "main.py"], cwd=example, check=False, timeout=PATIENCE).returncode
    except subprocess.TimeoutExpired:
        print(f"examples/{example.name} did not end within {PATIENCE} s", flush=True)
        return False


if __name__ == "__main__":
    sys.exit(main())
