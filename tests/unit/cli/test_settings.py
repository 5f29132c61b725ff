"""flag > environment > file > default, each name and type checked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.cli._errors import UsageMistake
from atomesh.cli._flags import Basics, Dialling
from atomesh.cli._settings import flat_names, load
from atomesh.cli.call import CallFlags
from atomesh.cli.registry import RegistryFlags
from atomesh.cli.serve import ServeFlags
from atomesh.cli.up import UpFlags


def written(tmp_path: Path, text: str) -> dict[str, str]:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return {"ATOMESH_CONFIG": str(file)}


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    environment = written(tmp_path, '[mesh]\nregistry = "127.0.0.1:1"\ndeadline = 1\npolicy = "round_robin"\n')
    environment |= {"ATOMESH_REGISTRY": "127.0.0.1:2", "ATOMESH_DEADLINE": "2.5"}
    settings = load(CallFlags(registry="127.0.0.1:3"), environment=environment)
    assert (settings.mesh.registry, settings.mesh.deadline, settings.mesh.policy) == ("127.0.0.1:3", 2.5, "round_robin")
    sources = {key: source for _, key, _, source in settings.rows()}
    assert sources["registry"] == "flag"
    assert sources["deadline"] == "environment ATOMESH_DEADLINE"
    assert sources["policy"] == f"file {tmp_path / 'config.toml'}"
    assert sources["drain_grace"] == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[mesh]\nregistri = "x"\n', "did you mean registry?"),
        ('[mehs]\nregistry = "x"\n', "did you mean mesh?"),
        ('registry = "x"\n', "put it under [mesh]"),
        ("[mesh]\nregistry = 7400\n", "[mesh] registry is 7400"),
        ('[serve]\nslots = "4"\n', "[serve] slots is '4'"),
        ("[serve]\nslots = 0\n", "[serve] slots is 0"),
        ('[log]\nlevel = "loud"\n', "[log] level is 'loud'"),
        ("[mesh\n", "is not TOML"),
        ("[registry]\nmemory = 1\n", "[registry] memory is 1"),
        ('[serve]\nlabels = ["novalue"]\n', "is not key=value"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageMistake) as mistake:
        load(Basics(), environment=written(tmp_path, text))
    assert said in mistake.value.message
    assert "config.toml" in mistake.value.message, "the file is named"


def test_a_file_that_is_not_utf8_is_told_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'[mesh]\nregistry = "\xff"\n')
    with pytest.raises(UsageMistake, match=r"not UTF-8 \(byte 19\)"):
        load(Basics(config=str(file)), environment={})


def test_an_unknown_variable_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageMistake, match=r"ATOMESH_REGISTY; did you mean ATOMESH_REGISTRY\?"):
        load(Basics(), environment={"ATOMESH_REGISTY": "127.0.0.1:1"})


def test_variables_are_text_and_are_read_as_what_the_setting_is() -> None:
    environment = {"ATOMESH_SERVE_SLOTS": "8", "ATOMESH_SERVE_LABELS": "a=1,b=2", "ATOMESH_INSECURE": "true"}
    settings = load(Basics(), environment=environment)
    assert settings.serve.slots == 8
    assert settings.serve.labels == {"a": "1", "b": "2"}
    assert settings.credentials.insecure is True


def test_an_empty_variable_is_not_set() -> None:
    assert load(Basics(), environment={"ATOMESH_TLS_CERT": ""}).credentials.tls_cert is None


def test_the_users_own_file_is_found_where_xdg_says(tmp_path: Path) -> None:
    (tmp_path / "atomesh").mkdir()
    (tmp_path / "atomesh" / "config.toml").write_text("[up]\nendpoints = 7\n")
    assert load(Basics(), environment={"XDG_CONFIG_HOME": str(tmp_path)}).up.endpoints == 7


@pytest.mark.parametrize("group", [Basics, Dialling, CallFlags, RegistryFlags, ServeFlags, UpFlags])
def test_every_shared_flag_is_a_setting(group: type[Any]) -> None:
    names = {field.name for field in dataclasses.fields(group)} - {"config"}
    assert names <= set(flat_names()), "a flag that is no setting would be dropped without a word"


def test_config_show_names_values_and_sources(
    atomesh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("very-secret")
    monkeypatch.setenv("ATOMESH_TOKEN_FILE", str(token))
    ended = atomesh("config", "show", "--json")
    rows = {(row["table"], row["key"]): row for row in json.loads(ended.out)["settings"]}
    assert rows["credentials", "token_file"]["source"] == "environment ATOMESH_TOKEN_FILE"
    assert rows["mesh", "registry"] == {
        "table": "mesh",
        "key": "registry",
        "value": "127.0.0.1:7400",
        "source": "default",
        "environment": "ATOMESH_REGISTRY",
    }
    assert "very-secret" not in ended.out + atomesh("config", "show").out, "secrets are never shown"
    assert "ATOMESH_TOKEN_FILE" in atomesh("config", "show", "--given").out


def test_a_typo_in_the_file_stops_every_verb_that_reads_it(
    atomesh: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for key, value in written(tmp_path, "[mesh]\ndeadlin = 3\n").items():
        monkeypatch.setenv(key, value)
    for arguments in (("agents",), ("call", "x", "{}"), ("registry",), ("up",), ("serve", "text-processor")):
        ended = atomesh(*arguments)
        assert ended.code == 2
        assert "did you mean deadline?" in ended.one_line()


def test_the_store_is_shown_without_its_password() -> None:
    settings = load(Basics(), environment={"ATOMESH_PIPELINES_STORE": "postgresql://me:secret@db.example/runs"})
    shown = {(table, key): value for table, key, value, _ in settings.rows()}
    assert settings.pipelines.store == "postgresql://me:secret@db.example/runs"
    assert shown["pipelines", "store"] == "postgresql://me:***@db.example/runs", "config show prints no secret"


def test_modules_that_may_be_started_are_a_list_of_names() -> None:
    settings = load(Basics(), environment={"ATOMESH_PIPELINES_ALLOW_MODULES": "mine, other.agents"})
    assert settings.pipelines.allow_modules == ["mine", "other.agents"]
    with pytest.raises(UsageMistake, match=r"'b\.\.c' is no module"):
        load(Basics(), environment={"ATOMESH_PIPELINES_ALLOW_MODULES": "a,b..c"})


def test_where_probes_may_go_is_a_list_of_networks() -> None:
    settings = load(Basics(), environment={"ATOMESH_REGISTRY_PROBE_NETWORKS": "10.0.0.0/8, fd00::/8"})
    assert settings.registry.probe_networks == ["10.0.0.0/8", "fd00::/8"]
    assert load(Basics(), environment={}).registry.probe_networks is None, "the registry's own default"
    flags = RegistryFlags(registry_probe_networks=["192.168.7.0/24"])
    assert load(flags, environment={}).registry.probe_networks == ["192.168.7.0/24"]


@pytest.mark.parametrize(
    ("networks", "wrong"),
    [("10.0.0.1/8", "no network to probe"), ("169.254.0.0/16", "link-local"), ("example.org", "no network to probe")],
)
def test_where_no_probe_may_go_is_refused_in_one_line(networks: str, wrong: str) -> None:
    with pytest.raises(UsageMistake, match=wrong) as refused:
        load(RegistryFlags(registry_probe_networks=[networks]), environment={})
    assert str(refused.value).startswith("--probe-network is ")
    assert "\n" not in str(refused.value)


def test_probes_can_be_switched_off_and_not_be_less_than_that() -> None:
    assert load(RegistryFlags(registry_probe_interval=0), environment={}).registry.probe_interval == 0
    with pytest.raises(UsageMistake, match="--probe-interval is -1"):
        load(RegistryFlags(registry_probe_interval=-1), environment={})
