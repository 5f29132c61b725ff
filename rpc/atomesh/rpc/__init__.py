"""Channels, servers, credentials and the registry's client: what every component needs on the wire."""

from atomesh.rpc.credentials import PLAINTEXT, Credentials, load_credentials
from atomesh.rpc.registrar import Registrar
from atomesh.rpc.registry_client import Registration, RegistryClient

__all__ = [
    "PLAINTEXT",
    "Credentials",
    "Registrar",
    "Registration",
    "RegistryClient",
    "load_credentials",
]
