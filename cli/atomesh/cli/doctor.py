"""`atomesh doctor`: what is wrong on this machine, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from atomesh.cli._errors import ExitCode
from atomesh.cli._flags import Dialling, Json
from atomesh.cli._output import cell, console, say_json

if TYPE_CHECKING:
    from atomesh.cli._checks import Finding


def doctor(flags: Dialling, as_json: Json = False) -> int:
    """Check versions, configuration, ports, files, registry and agents.

    Each line is ok, warn or fail, with what to do; exit code 1 where one is fail.

    \b
    atomesh doctor
    atomesh doctor --registry 10.0.0.5:7400 --tls-ca ca.pem --json
    """
    from atomesh.cli import _checks

    findings = asyncio.run(_checks.run(flags))
    failed = any(finding.level == "fail" for finding in findings)
    if as_json:
        say_json({"ok": not failed, "checks": [finding.data() for finding in findings]})
    else:
        _table(findings)
    return ExitCode.FAILED if failed else ExitCode.OK


def _table(findings: Sequence[Finding]) -> None:
    from rich.table import Table

    styles = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        said = finding.message + (f"; {finding.todo}" if finding.todo else "")
        table.add_row(cell(finding.level, styles[finding.level]), cell(finding.check), cell(said))
    console().print(table)
