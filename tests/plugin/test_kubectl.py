"""kubectl is run as lists of arguments, and what it says becomes an error with advice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dsg.plugin import kubectl as module
from dsg.plugin.kubectl import (
    ConfigurationWrong,
    Connection,
    Forbidden,
    Invalid,
    Kubectl,
    KubectlError,
    KubectlMissing,
    NotFound,
    NotInstalled,
    NotLoggedIn,
    Unreachable,
    failure,
)
from tests.plugin.world import World, repository

# What kubectl 1.28 to 1.37 says.
SAYINGS: list[tuple[str, type[KubectlError], str]] = [
    ('Error from server (NotFound): repositories.dsg.hrdag.org "x" not found', NotFound, "x"),
    (
        'Error from server (Forbidden): synctransactions.dsg.hrdag.org is forbidden: User "ana" cannot create resource',
        Forbidden,
        "doctor",
    ),
    ("error: You must be logged in to the server (Unauthorized)", NotLoggedIn, "Log in"),
    (
        "E1125 10:00:00.000000 1 memcache.go:265] couldn't get current server API group list: the server has asked for "
        "the client to provide credentials\nerror: You must be logged in to the server (the server has asked for the "
        "client to provide credentials)",
        NotLoggedIn,
        "Log in",
    ),
    (
        "Unable to connect to the server: getting credentials: exec: executable oidc-login failed with exit code 1",
        NotLoggedIn,
        "Log in",
    ),
    (
        "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?",
        Unreachable,
        "VPN",
    ),
    ("Unable to connect to the server: dial tcp: lookup nowhere: no such host", Unreachable, "network"),
    ("Unable to connect to the server: net/http: TLS handshake timeout", Unreachable, "network"),
    (
        "Unable to connect to the server: x509: certificate signed by unknown authority",
        Unreachable,
        "certificate",
    ),
    ('error: context "nowhere" does not exist', ConfigurationWrong, "--context"),
    ("Error in configuration: context was not found for specified context: x", ConfigurationWrong, "--context"),
    (
        "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
        ConfigurationWrong,
        "--kubeconfig",
    ),
    ("error: stat /no/such: no such file or directory", ConfigurationWrong, "--kubeconfig"),
    ('error: the server doesn\'t have a resource type "repositories"', NotInstalled, "platform team"),
    (
        'error: resource mapping not found for name: "x" from "STDIN": no matches for kind "SyncTransaction"',
        NotInstalled,
        "platform team",
    ),
    ('The SyncTransaction "x" is invalid: spec.base: Invalid value: "string": must be a version', Invalid, "spec.base"),
]


@pytest.mark.parametrize(("said", "kind", "word"), SAYINGS)
def test_what_kubectl_says_becomes_an_error_with_advice(said: str, kind: type[KubectlError], word: str) -> None:
    error = failure(said)
    assert type(error) is kind
    assert word in str(error)
    assert not error.message.startswith(("error:", "Error from server"))
    assert "memcache.go" not in str(error)


def test_a_policy_that_denies_is_told_in_its_own_words() -> None:
    said = (
        'Error from server (Forbidden): error when creating "STDIN": synctransactions.dsg.hrdag.org "x" is forbidden: '
        "ValidatingAdmissionPolicy 'dsg-author' with binding 'dsg-author' denied request: author must be you"
    )
    error = failure(said)
    assert isinstance(error, Forbidden)
    assert error.message == "author must be you"


def test_something_unknown_is_told_as_it_is() -> None:
    assert failure("error: the moon is full").message == "the moon is full"
    assert "did not say why" in failure("").message


def test_a_missing_binary(tmp_path: Path) -> None:
    with pytest.raises(KubectlMissing, match="not installed"):
        Kubectl(binary=str(tmp_path / "no-kubectl")).whoami()
    (tmp_path / "text").write_text("no program")
    with pytest.raises(KubectlMissing, match="can't be run"):
        Kubectl(binary=str(tmp_path / "text")).whoami()


def test_options_are_passed_through_and_nothing_is_a_shells(world: World) -> None:
    name = "justice; touch /tmp/gone"
    with pytest.raises(NotFound):
        Kubectl(Connection("lab", "research", "/k c")).get("repositories.dsg.hrdag.org", name)
    words, flags = world.calls()[-1]
    assert words == ["get", "repositories.dsg.hrdag.org", name]
    assert (flags["context"], flags["namespace"], flags["kubeconfig"]) == ("lab", "research", "/k c")


def test_objects_come_and_go(world: World) -> None:
    world.put(repository())
    kubectl = Kubectl()
    assert [one["metadata"]["name"] for one in kubectl.list("repositories.dsg.hrdag.org")] == ["justice"]
    assert kubectl.whoami().name == "ana"
    assert kubectl.context().server == "https://lab.example:6443"
    theirs, mine = kubectl.server_time()
    assert abs(theirs - mine) < 10


def test_rights(world: World) -> None:
    world.said["refused"] = ["create repositories"]
    world.save()
    kubectl = Kubectl()
    assert not kubectl.can_i("create", "repositories")
    assert kubectl.can_i("get", "repositories")
    world.fails("auth", "error: You must be logged in to the server (Unauthorized)")
    with pytest.raises(NotLoggedIn):
        kubectl.can_i("get", "repositories")


def test_an_answer_that_is_no_object(world: World, tmp_path: Path) -> None:
    script = tmp_path / "odd"
    script.write_text("#!/bin/sh\necho '[1]'\n")
    script.chmod(0o755)
    with pytest.raises(KubectlError, match="no object"):
        Kubectl(binary=str(script)).get("repositories", "x")


def test_a_kubectl_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "slow"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(module, "_TIMEOUT", 0.3)
    monkeypatch.setattr(module, "_SILENCE", 0.1)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="did not end"):
        Kubectl(binary=str(script)).whoami()
    assert time.monotonic() - started < 10


def test_a_login_that_asks_is_heard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "login"
    answer = '{"status": {"userInfo": {"username": "ana"}}}'
    script.write_text(f"#!/bin/sh\necho 'open https://login.example' >&2\nsleep 1\necho '{answer}'\n")
    script.chmod(0o755)
    monkeypatch.setattr(module, "_SILENCE", 0.1)
    assert Kubectl(binary=str(script)).whoami().name == "ana"
    assert capfd.readouterr().err == "open https://login.example\n"
