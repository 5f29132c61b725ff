"""Versions of agents: semver 2.0.0, and ranges of them."""

from __future__ import annotations

import functools
import re

import semver

from atomesh.core.errors import InvalidArgument

_CLAUSE = re.compile(r"\s*(==|!=|>=|<=|>|<)?\s*(\S+)\s*")
# Attacks by length are cheap here: semver's own pattern is linear, and an
# agent's version is at most 128 bytes on the wire.


@functools.lru_cache(maxsize=1024)
def parse_version(text: str) -> semver.Version:
    """The version.

    Raises:
        InvalidArgument: it is no semver, such as 1.2.3 or 2.0.0-rc.1.
    """
    try:
        return semver.Version.parse(text)
    except ValueError:
        raise InvalidArgument(f"version {text!r:.80} is not semver; expected such as 1.2.3 or 2.0.0-rc.1") from None


class VersionRange:
    """Comparisons joined by commas, all of which must hold: `>=1.2.0,<2`.

    A bare version means that one; parts left out count as 0 (`<2` is `<2.0.0`).
    By semver, 2.0.0-rc.1 is below 2.0.0, so `<2` lets it in: say `<2.0.0-0`.
    """

    def __init__(self, text: str) -> None:
        """Raises InvalidArgument where it is no range; empty lets all in."""
        self.text = text
        self._clauses = [_clause(part, text) for part in text.split(",")] if text.strip() else []

    def __contains__(self, version: str) -> bool:
        """Whether the version lies in the range."""
        parsed = parse_version(version)
        return all(_holds(parsed.compare(bound), operator) for operator, bound in self._clauses)


@functools.lru_cache(maxsize=1024)
def parse_range(text: str) -> VersionRange:
    """The range, parsed once."""
    return VersionRange(text)


def _clause(part: str, whole: str) -> tuple[str, semver.Version]:
    matched = _CLAUSE.fullmatch(part)
    if matched is None:
        raise InvalidArgument(
            f"version range {whole!r:.80} is not comparisons joined by commas, such as >=1.2.0,<2.0.0"
        )
    operator, text = matched.groups()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        text += ".0" * (2 - text.count("."))
    return operator or "==", parse_version(text)


def _holds(order: int, operator: str) -> bool:
    if operator == "==":
        return order == 0
    if operator == "!=":
        return order != 0
    if operator == ">=":
        return order >= 0
    if operator == "<=":
        return order <= 0
    return order > 0 if operator == ">" else order < 0
