"""Who may speak to the lab's API server, and what proves it: our own CA, a serving certificate, tokens, kubeconfigs."""

import base64
import csv
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

GUEST_VIEW_OF_HOST = "10.0.2.2"
"""The address at which a QEMU guest with user-mode network reaches this machine (QEMU documentation, -netdev user)."""

_SERVICE_ACCOUNT_GROUPS = ("system:serviceaccounts", "system:serviceaccounts:dsg-system")


@dataclass(frozen=True)
class User:
    """One line of the token file: a short name for the lab, and the name and groups Kubernetes sees."""

    short: str
    name: str
    groups: tuple[str, ...]


USERS: dict[str, User] = {
    user.short: user
    for user in (
        User("admin", "admin", ("system:masters",)),
        User("operator", "system:serviceaccount:dsg-system:dsg-operator", _SERVICE_ACCOUNT_GROUPS),
        User("monitor", "system:serviceaccount:dsg-system:dsg-monitor", _SERVICE_ACCOUNT_GROUPS),
        User("alice", "alice", ("researchers",)),
        User("bob", "bob", ("researchers",)),
        User("outsider", "outsider", ("outsiders",)),
    )
}


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
    temporary.replace(path)


class Credentials:
    """The files of one lab's identity, made on first use in `directory` and the same ever after."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.pem"
        self.serving_certificate = directory / "serving.pem"
        self.serving_key = directory / "serving.key"
        self.service_account_key = directory / "service-account.key"
        self.token_file = directory / "tokens.csv"
        self._tokens = directory / "tokens.json"

    def ensure(self) -> None:
        """Make what is missing."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written last, so its presence says that all the others are there.
        if self._tokens.exists():
            return
        authority = trustme.CA(organization_name="dsg lab")
        serving = authority.issue_cert("127.0.0.1", "localhost", GUEST_VIEW_OF_HOST)
        write_private(self.ca, authority.cert_pem.bytes())
        chain = b"".join(blob.bytes() for blob in serving.cert_chain_pems)
        write_private(self.serving_certificate, chain)
        write_private(self.serving_key, serving.private_key_pem.bytes())
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        encoding = serialization.Encoding.PEM
        form = serialization.PrivateFormat.PKCS8
        write_private(self.service_account_key, key.private_bytes(encoding, form, serialization.NoEncryption()))
        tokens = {short: secrets.token_hex(24) for short in USERS}
        with self.token_file.open("w", newline="") as out:
            self.token_file.chmod(0o600)
            rows = csv.writer(out)
            for short, user in USERS.items():
                rows.writerow([tokens[short], user.name, f"lab-{short}", ",".join(user.groups)])
        write_private(self._tokens, json.dumps(tokens).encode())

    def token(self, user: str) -> str:
        """The bearer token of a user by short name. Raises `KeyError` for an unknown one."""
        tokens: dict[str, str] = json.loads(self._tokens.read_text())
        return tokens[user]

    def kubeconfig(self, user: str, server: str) -> bytes:
        """A kubeconfig (YAML) for one user and one server URL, CA and token embedded."""
        authority = base64.b64encode(self.ca.read_bytes()).decode()
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"token": self.token(user)}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user, "namespace": "default"}}],
            "current-context": "lab",
        }
        return yaml.safe_dump(content, sort_keys=False).encode()
