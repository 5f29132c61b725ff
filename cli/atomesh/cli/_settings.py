"""Every setting with its value and where that came from: flag > environment > file > default.

The environment is read here and nowhere else. A setting has one flat name: the
key in its table of the file with the table's prefix. `[registry] bind` is
`ATOMESH_REGISTRY_BIND` and the flag `--bind` of `atomesh registry`; tables
that all verbs share have no prefix (`[mesh] registry` is `ATOMESH_REGISTRY`).
A name that is none is refused with the nearest one that is: a typo that is
silently a default costs an afternoon.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from atomesh.cli._errors import UsageMistake
from atomesh.cli._sections import (
    SECTIONS,
    CredentialsSection,
    LogSection,
    MeshSection,
    PipelinesSection,
    RegistrySection,
    ServeSection,
    TracingSection,
    UpSection,
)

PREFIX = "ATOMESH_"
CONFIG_VARIABLE = "ATOMESH_CONFIG"


@dataclass(frozen=True)
class Source:
    """Where a value came from, in words, and whether its type is to be taken literally."""

    name: str
    strict: bool = False


DEFAULT = Source("default")


@dataclass(frozen=True)
class Settings:
    """All settings, effective."""

    mesh: MeshSection
    credentials: CredentialsSection
    log: LogSection
    tracing: TracingSection
    registry: RegistrySection
    serve: ServeSection
    up: UpSection
    pipelines: PipelinesSection
    sources: Mapping[str, Source]
    """By flat name; what is not in it is the default."""
    file: Path | None
    """The file that was read; None where there is none."""

    def rows(self) -> Iterator[tuple[str, str, Any, str]]:
        """Table, key, value and source of every setting."""
        for table, section in SECTIONS.items():
            for key in section.model_fields:
                source = self.sources.get(section.prefix + key, DEFAULT)
                yield table, key, getattr(self, table).shown(key), source.name


def flat_names() -> dict[str, tuple[str, str]]:
    """Table and key of every setting by its flat name."""
    return {section.prefix + key: (table, key) for table, section in SECTIONS.items() for key in section.model_fields}


def variable_of(table: str, key: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + (SECTIONS[table].prefix + key).upper()


def load(*flags: Any, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings that hold for a verb with these groups of flags.

    Raises:
        UsageMistake: a name that is none, a value of the wrong type, a file that cannot be read.
    """
    environment = os.environ if environment is None else environment
    given = {
        field.name: value
        for group in flags
        for field in dataclasses.fields(group)
        if (value := getattr(group, field.name)) not in (None, [])
    }
    path = _config_path(given.pop("config", None), environment)
    found: dict[str, tuple[Any, Source]] = {}
    found.update(_from_opentelemetry(environment))
    found.update(_from_file(path) if path else {})
    found.update(_from_environment(environment))
    names = flat_names()
    found.update({name: (value, Source("flag")) for name, value in given.items() if name in names})
    return _checked(found, path)


def _config_path(flag: str | None, environment: Mapping[str, str]) -> Path | None:
    said = flag or environment.get(CONFIG_VARIABLE)
    if said:
        path = Path(said).expanduser()
        if not path.is_file():
            raise UsageMistake(
                f"there is no configuration file {path} (from {'--config' if flag else CONFIG_VARIABLE})"
                "; name one that exists"
            )
        return path
    path = default_config_path(environment)
    return path if path.is_file() else None


def default_config_path(environment: Mapping[str, str]) -> Path:
    """Where the configuration file is looked for when nobody says (XDG base directories)."""
    home = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~"), ".config")
    return Path(home).expanduser() / "atomesh" / "config.toml"


def state_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Where a registry keeps its state when nobody says (XDG base directories)."""
    environment = os.environ if environment is None else environment
    home = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME", "~"), ".local", "state")
    return Path(home).expanduser() / "atomesh"


def _from_file(path: Path) -> dict[str, tuple[Any, Source]]:
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageMistake(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageMistake(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageMistake(f"{path} is not TOML: {error}") from None
    found: dict[str, tuple[Any, Source]] = {}
    source = Source(f"file {path}", strict=True)
    for table, entries in tables.items():
        if table not in SECTIONS or not isinstance(entries, dict):
            raise UsageMistake(f"{path}: {_unknown_table(table, entries)}")
        section = SECTIONS[table]
        for key, value in entries.items():
            if key not in section.model_fields:
                raise UsageMistake(f"{path}: no key {key!r:.80} in [{table}]{_nearest(key, section.model_fields)}")
            found[section.prefix + key] = (value, source)
    return found


def _unknown_table(name: str, entries: Any) -> str:
    if isinstance(entries, dict):
        return f"no table [{name:.80}]; there are {', '.join(SECTIONS)}{_nearest(name, SECTIONS)}"
    homes = [table for table, section in SECTIONS.items() if name in section.model_fields]
    where = f"put it under [{homes[0]}]" if homes else f"keys stand in tables: {', '.join(SECTIONS)}"
    return f"{name!r:.80} stands outside of a table; {where}"


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, Source]]:
    names = {PREFIX + name.upper(): name for name in flat_names()}
    found: dict[str, tuple[Any, Source]] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or value == "":
            continue
        if variable not in names:
            known = [*names, CONFIG_VARIABLE]
            raise UsageMistake(f"no setting goes by the environment variable {variable:.80}{_nearest(variable, known)}")
        found[names[variable]] = (value, Source(f"environment {variable}"))
    return found


def _from_opentelemetry(environment: Mapping[str, str]) -> dict[str, tuple[Any, Source]]:
    """The collector that OpenTelemetry's own variables name for all programs; the more special one goes first."""
    for kind in ("TRACES_", ""):
        if environment.get(f"OTEL_EXPORTER_OTLP_{kind}PROTOCOL", "grpc") != "grpc":
            return {}  # there, another protocol is spoken than ours
        variable = f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT"
        if said := environment.get(variable):
            return {"otlp_endpoint": (said, Source(f"environment {variable}"))}
    return {}


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else "; `atomesh config show` lists all"


def _checked(found: Mapping[str, tuple[Any, Source]], path: Path | None) -> Settings:
    values: dict[str, dict[str, Any]] = {table: {} for table in SECTIONS}
    names = flat_names()
    for name, (value, source) in found.items():
        table, key = names[name]
        values[table][key] = _typed(table, key, value, source)
    sections: dict[str, Any] = {table: section(**values[table]) for table, section in SECTIONS.items()}
    return Settings(**sections, sources={name: source for name, (_, source) in found.items()}, file=path)


def _typed(table: str, key: str, value: Any, source: Source) -> Any:
    field = SECTIONS[table].model_fields[key]
    annotation: Any = field.annotation
    for constraint in field.metadata:
        annotation = Annotated[annotation, constraint]
    try:
        return TypeAdapter(annotation).validate_python(value, strict=source.strict)
    except ValidationError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
        place = _flag_of(key) if source.name == "flag" else f"{source.name}: [{table}] {key}"
        raise UsageMistake(f"{place} is {value!r:.80}; {wrong[:1].lower()}{wrong[1:]}") from None


def _flag_of(key: str) -> str:
    """The flag of a setting: its key, but where several of a kind make one setting, or another verb has the word."""
    odd = {
        "labels": "--label",
        "breakers": "--breaker",
        "level": "--log-level",
        "format": "--log-format",
        "allow_modules": "--allow-module",
        "probe_networks": "--probe-network",
    }
    return odd.get(key) or "--" + key.replace("_", "-")
