"""Versions of agents: semver 2.0.0, and ranges of them."""

from __future__ import annotations

import functools
import re

import semver

from atomesh.core.errors import InvalidArgument

_CLAUSE = re.compile(r"(==|!=|>=|<=|>|<)?\s*(\S+)")
_MAX_LENGTH = 256
"""Characters; on the wire a version has at most 128. Numbers of some thousand
digits would fail in comparisons, which Python refuses to convert."""


@functools.lru_cache(maxsize=1024)
def parse_version(text: str) -> semver.Version:
    """The version.

    Raises:
        InvalidArgument: it is no semver, such as 1.2.3 or 2.0.0-rc.1.
    """
    if len(text) > _MAX_LENGTH or not semver.Version.is_valid(text):
        raise InvalidArgument(f"version {text!r:.80} is not semver; expected such as 1.2.3 or 2.0.0-rc.1")
    return semver.Version.parse(text)


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
    matched = _CLAUSE.fullmatch(part.strip())
    if matched is None:
        raise InvalidArgument(
            f"version range {whole!r:.80} is not comparisons joined by commas, such as >=1.2.0,<2.0.0"
        )
    operator, text = matched.groups()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        text += ".0" * (2 - text.count("."))
    try:
        return operator or "==", parse_version(text)
    except InvalidArgument:
        raise InvalidArgument(
            f"version range {whole!r:.80} is not comparisons of semver, such as >=1.2.0,<2.0.0; {text!r:.40} is no version"
        ) from None


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
