"""Makes and updates one of the project's Python environments, and does nothing where nothing changed.

    python3 tools/env.py .venv                      atomesh itself, editable
    python3 tools/env.py .venv dev eval             and these dependency groups
    python3 tools/env.py --bare .cache/x generate   the groups alone

The groups are read here because pip learnt `--group` in 25.1 only, and Python
3.11 brings pip 23. What was installed is written to a stamp named for it,
`ENV/.stamp-GROUPS`; pyproject.toml is compared in the parts that matter, so
that a change of lint settings installs nothing.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent

if sys.version_info < OLDEST:  # before the imports that an older Python does not have
    for newer in ("python3.14", "python3.13", "python3.12", "python3.11"):
        # One that is found may still be a pyenv shim with nothing behind it.
        if shutil.which(newer) and not subprocess.call([newer, "-c", ""], stderr=subprocess.DEVNULL):
            os.execvp(newer, [newer, *sys.argv])
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit(f"error: {sys.executable} is Python {found}, and 3.11 or newer is needed; `make PYTHON=...` names one")

import tomllib
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes one of the project's Python environments.")
    parser.add_argument("env", type=Path)
    parser.add_argument("groups", nargs="*")
    parser.add_argument("--bare", action="store_true", help="without atomesh itself")
    asked = parser.parse_args()
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    stamp = asked.env / f".stamp-{'-'.join(asked.groups) or 'runtime'}"
    made = _make(asked.env)
    wanted = _fingerprint(config, asked.groups, bare=asked.bare)
    if made or not stamp.exists() or stamp.read_text() != wanted:
        _install(asked.env, config, asked.groups, bare=asked.bare)
        stamp.write_text(wanted)
        if not asked.bare:
            (asked.env / ".stamp-runtime").write_text(_fingerprint(config, [], bare=False))
    os.utime(stamp)


def _fingerprint(config: dict[str, Any], groups: list[str], *, bare: bool) -> str:
    """Everything that decides what gets installed, as one hash."""
    parts = [[sys.version, sys.prefix, str(ROOT)], [config["dependency-groups"][group] for group in groups]]
    if not bare:
        parts += [config["build-system"], config["project"], config["tool"]["hatch"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _python(env: Path) -> Path:
    return env / "bin" / "python"


def _make(env: Path) -> bool:
    """Whether the environment had to be made: it was not there, or its Python is gone or too old."""
    probe = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    if _python(env).exists() and not subprocess.run([_python(env), "-c", probe], check=False).returncode:
        return False
    print(f"making {env} with {sys.executable}", flush=True)
    shutil.rmtree(env, ignore_errors=True)
    done = subprocess.run([sys.executable, "-m", "venv", env], check=False, capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(env, ignore_errors=True)  # a half-made one would pass for a whole one
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        package = f"python3.{sys.version_info[1]}-venv"
        sys.exit(f"error: cannot make {env} ({''.join(last)}); on Debian: apt-get install {package}")
    return True


def _install(env: Path, config: dict[str, Any], groups: list[str], *, bare: bool) -> None:
    wanted = [requirement for group in groups for requirement in config["dependency-groups"][group]]
    if not bare:
        wanted += ["--editable", str(ROOT)]
    print(f"installing {', '.join([*([] if bare else ['atomesh']), *groups])} into {env}", flush=True)
    pip = [_python(env), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    if subprocess.run(pip, check=False).returncode:
        sys.exit(f"error: pip could not fill {env} (its words above); the package index must be within reach")


if __name__ == "__main__":
    main()
