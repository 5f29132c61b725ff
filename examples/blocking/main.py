"""Starts a mesh as `atomesh up` does, on free ports, and runs the script over it."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
UP = ("up", "--json", "--memory", "--endpoints", "2", "--registry-bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0")


def main() -> int:
    with subprocess.Popen([sys.executable, "-m", "atomesh", *UP], stdout=subprocess.PIPE, text=True) as mesh:
        try:
            ready = json.loads(next(iter(mesh.stdout or ()), "null"))  # one line, once all is registered
            if ready is None:
                return 1  # and its own line on stderr says why
            script = [sys.executable, HERE / "keywords.py", ready["registry"]["address"]]
            return subprocess.run(script, check=False).returncode
        finally:
            mesh.terminate()  # as Ctrl-C: drains, then ends


if __name__ == "__main__":
    sys.exit(main())
