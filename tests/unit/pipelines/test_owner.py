from __future__ import annotations

import os
import subprocess
import sys

import pytest

from atomesh.pipelines.machine import this_host, this_process
from atomesh.pipelines.owner import Host, Owner, owner_gone

HERE = Host("here", "b00t", "1", lambda pid: "100" if pid == 7 else "")


@pytest.mark.parametrize(
    "owner",
    [
        Owner("host-1.example", 7, "b00t.1.100", "127.0.0.1:7500"),
        Owner("host", 7, "b00t.1.100"),
        Owner("host", 7, "", "[::1]:7500"),
        Owner("host", 7),
    ],
)
def test_an_owner_is_read_as_it_is_written(owner: Owner) -> None:
    assert Owner.parse(str(owner)) == owner


@pytest.mark.parametrize("text", ["", "somebody", "pid x on host", "pid 7", "127.0.0.1:7500"])
def test_what_is_no_owner_is_none_and_nobody_knows_of_it(text: str) -> None:
    assert Owner.parse(text) is None
    assert owner_gone(text, HERE) is None


@pytest.mark.parametrize(
    ("owner", "gone", "why"),
    [
        (Owner("here", 7, "b00t.1.100"), False, "it runs"),
        (Owner("here", 8, "b00t.1.100"), True, "no process has the id"),
        (Owner("here", 7, "b00t.1.99"), True, "another process has its id now"),
        (Owner("here", 7, "earlier.1.100"), True, "the machine was started anew"),
        (Owner("here", 7, "b00t.2.100"), None, "ids of another container mean nothing here"),
        (Owner("there", 7, "b00t.1.100"), None, "it is on another machine"),
        (Owner("here", 7), None, "its stamp is not known"),
    ],
)
def test_an_owner_is_gone_only_where_that_can_be_seen(owner: Owner, gone: bool | None, why: str) -> None:
    assert owner.is_gone(HERE) is gone, why


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process began")
def test_this_process_is_there_and_one_that_has_ended_is_gone() -> None:
    me = this_process("127.0.0.1:7500")
    assert me.pid == os.getpid()
    assert me.is_gone(this_host()) is False
    code = "from atomesh.pipelines.machine import this_process; print(this_process())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert owner_gone(other, this_host()) is True
