"""Versions by semver 2.0.0, and ranges of them."""

from __future__ import annotations

import itertools

import pytest

from atomesh.core.errors import InvalidArgument
from atomesh.core.versions import parse_range, parse_version


def test_precedence_is_semvers_own() -> None:
    # semver.org, item 11, verbatim.
    ordered = [
        f"1.0.0{suffix}"
        for suffix in ("-alpha", "-alpha.1", "-alpha.beta", "-beta", "-beta.2", "-beta.11", "-rc.1", "")
    ]
    for lower, higher in itertools.combinations(ordered, 2):
        assert lower in parse_range(f"<{higher}")
        assert higher not in parse_range(f"<={lower}")
        assert lower in parse_range(f"!={higher}")


@pytest.mark.parametrize(
    ("version", "range_", "inside"),
    [
        ("1.2.3", "", True),
        ("1.2.3", "  ", True),
        ("1.2.3", "1.2.3", True),
        ("1.2.3", "==1.2.3", True),
        ("1.2.4", "1.2.3", False),
        ("1.2.3+build.7", "1.2.3", True),  # build metadata does not count
        ("1.9.9", "<2", True),
        ("2.0.0", "<2", False),
        ("2.0.0-rc.1", "<2", True),  # by semver it is below 2.0.0
        ("2.0.0-rc.1", "<2.0.0-0", False),
        ("1.2.0", ">=1.2", True),
        ("1.1.9", ">=1.2", False),
        ("1.5.0", ">=1.2.0,<2.0.0", True),
        ("1.5.0", " >= 1.2.0 , < 2.0.0 ", True),
        ("2.5.0", ">=1.2.0,<2.0.0", False),
        ("1.5.0", ">1,<2,!=1.5.0", False),
        ("10.0.0", ">9.0.0", True),
    ],
)
def test_a_version_lies_in_its_range(version: str, range_: str, inside: bool) -> None:
    assert (version in parse_range(range_)) is inside


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3 ", " 1.2.3", "1.2.3\n", "1.2.3-", "1.2.3-01", "latest"),
        *("1٢.0.0", "1.2.3\x00", "1.0.0-" + "a" * 10_000, "1" * 10_000 + ".0.0", "1.0.0-" + "1" * 5_000),
    ],
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not semver") as refused:
        parse_version(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        *("latest", "~1.2", "^1", "1.x", "*", "=1", "=>1.0.0", ">", "<2,", ",", "1.0.0 2.0.0", ">=1.0.0 <2.0.0", "<٢"),
        *(" " * 10_000 + "a b", ">" * 10_000, "1," * 5_000, "\x00"),
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_range(text)
    assert len(str(refused.value)) < 250
