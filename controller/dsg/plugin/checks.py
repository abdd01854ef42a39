"""What `doctor` looks at, check by check; each says what is so and, where it is not well, what to do."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dsg.api.names import GROUP
from dsg.api.repository import Repository
from dsg.api.synctransaction import Changes
from dsg.plugin import limits
from dsg.plugin.cluster_remote import REPOSITORY
from dsg.plugin.kubectl import Kubectl, KubectlError, KubectlMissing, NotInstalled, Unreachable, User
from dsg.plugin.text import count, duration, size
from dsg.plugin.transaction import KIND, Patience, Request, Transaction, TransactionError, parse_repository
from dsg.transfer.client.identity import Endpoint, Identity

_SKEW_WARNING = 5.0
_SKEW_FAILURE = 300.0
"""Seconds: beyond this, logins by signed tokens fail in many clusters."""
_CONNECT = 10.0
"""Seconds for a connection to the data plane."""
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
"""Set by Kubernetes inside its pods."""
_LOW_SPACE = 1024**3
"""Bytes of free disk below which a warning is due."""
_PERMISSIONS = (
    ("list", REPOSITORY, "see repositories"),
    ("get", REPOSITORY, "look at a repository"),
    ("create", KIND, "open transactions (clone, sync, fetch …)"),
    ("get", KIND, "follow a transaction"),
    ("patch", KIND, "commit or close a transaction"),
)


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It could not be looked at, because an earlier check failed or there is nothing to look at."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found."""

    name: str
    verdict: Verdict
    message: str
    advice: str = ""


def failed(name: str, error: Exception) -> Check:
    """Return the check that an error makes."""
    advice = getattr(error, "advice", "")
    return Check(name, Verdict.FAILED, getattr(error, "message", "") or str(error), advice)


def cluster(kubectl: Kubectl) -> Iterator[Check]:
    """Look at kubectl, the kubeconfig, the API server, the login, the kinds, the rights and the clocks.

    Ends early where what follows can't be looked at.
    """
    try:
        client, server = kubectl.versions()
    except KubectlMissing as error:
        yield failed("kubectl", error)
        return
    except Unreachable:
        client, server = "", ""
    except KubectlError as error:
        yield failed("kubeconfig", error)
        return
    yield Check("kubectl", Verdict.OK, client or "is there")
    try:
        context = kubectl.context()
    except KubectlError as error:
        yield failed("kubeconfig", error)
        return
    if not context.name and not os.environ.get(_IN_CLUSTER):
        yield Check(
            "kubeconfig",
            Verdict.FAILED,
            "there is none, or it has no current context",
            "Get one from the platform team, and put it at ~/.kube/config, or name it in KUBECONFIG or --kubeconfig. "
            "`kubectl config use-context` chooses a context.",
        )
        return
    name = f"context {context.name}" if context.name else "no kubeconfig; the cluster that this machine is in"
    at = f", {context.server}" if context.server else ""
    yield Check("kubeconfig", Verdict.OK, f"{name}, namespace {context.namespace}{at}")
    started = time.monotonic()
    try:
        user = kubectl.whoami()
    except Unreachable as error:
        yield failed("API server", error)
        return
    except KubectlError as error:
        yield failed("login", error)
        return
    took = time.monotonic() - started
    yield _server(client, server, took)
    yield _login(user)
    yield (kinds := _kinds(kubectl))
    if kinds.verdict is not Verdict.FAILED:
        yield _permissions(kubectl, context.namespace)
    yield _clock(kubectl)


def _server(client: str, server: str, took: float) -> Check:
    text = f"{server or 'answers'}, in {took:.1f} s"
    mine, theirs = _minor(client), _minor(server)
    if mine is not None and theirs is not None and abs(mine - theirs) > 1:
        return Check(
            "API server",
            Verdict.WARNING,
            f"{text}; kubectl is {client}, more than one minor version away",
            "Install a kubectl within one minor version of the cluster's (Kubernetes' version skew policy).",
        )
    return Check("API server", Verdict.OK, text)


def _minor(version: str) -> int | None:
    found = re.match(r"v?1\.(\d+)", version)
    return int(found[1]) if found else None


def _login(user: User) -> Check:
    if user.name == "system:anonymous":
        return Check(
            "login",
            Verdict.FAILED,
            "the API server takes you for anonymous",
            "Log in to the cluster as you do for kubectl, then try again.",
        )
    groups = f", in {', '.join(user.groups)}" if user.groups else ""
    return Check("login", Verdict.OK, f"you are {user.name}{groups}")


def _kinds(kubectl: Kubectl) -> Check:
    wanted = {REPOSITORY, KIND}
    done = kubectl.run(["api-resources", f"--api-group={GROUP}", "--output=name"])
    missing = sorted(wanted - set(done.stdout.split()))
    if missing:
        error = NotInstalled(
            f"this cluster does not know {' and '.join(missing)}",
            "Ask the platform team to install dsg here, or choose another cluster with --context.",
        )
        return failed("kinds", error)
    return Check("kinds", Verdict.OK, "Repositories and SyncTransactions are known here")


def _permissions(kubectl: Kubectl, namespace: str) -> Check:
    refused = []
    try:
        refused = [what for verb, resource, what in _PERMISSIONS if not kubectl.can_i(verb, resource)]
    except KubectlError as error:
        return Check("permissions", Verdict.WARNING, f"could not be asked for: {error.message}", error.advice)
    if refused:
        return Check(
            "permissions",
            Verdict.FAILED,
            f"in namespace {namespace} you may not: {'; '.join(refused)}",
            "Ask the platform team for a RoleBinding to the ClusterRole dsg-researcher there, or choose another "
            "namespace with --namespace.",
        )
    return Check("permissions", Verdict.OK, f"all that is needed in namespace {namespace}")


def _clock(kubectl: Kubectl) -> Check:
    try:
        theirs, mine = kubectl.server_time()
    except KubectlError as error:
        return Check("clock", Verdict.SKIPPED, error.message)
    skew = mine - theirs
    if abs(skew) <= _SKEW_WARNING:
        return Check("clock", Verdict.OK, "agrees with the API server's")
    word = "ahead of" if skew > 0 else "behind"
    return Check(
        "clock",
        Verdict.FAILED if abs(skew) > _SKEW_FAILURE else Verdict.WARNING,
        f"this machine's clock is {duration(abs(skew))} {word} the API server's",
        "Let the system set its clock (`timedatectl set-ntp true`). Syncs go by content, so no data is at risk.",
    )


def repository(kubectl: Kubectl, name: str, uid: str = "") -> tuple[Check, Repository | None]:
    """Look at a Repository; `uid` is its identity where one is known."""
    try:
        found = parse_repository(kubectl.get(REPOSITORY, name))
    except KubectlError as error:
        return failed("repository", error), None
    if uid and found.metadata.uid != uid:
        return Check(
            "repository",
            Verdict.WARNING,
            f"{name} is another object than the one this working copy was made from: it was deleted and made anew",
            "Run `kubectl dsg sync`: where it holds the version that was synced here, as after a restore, the sync "
            "goes on; else it says so and changes nothing.",
        ), None
    status = found.status
    ready = next((one for one in status.conditions if one.type == "Ready"), None) if status is not None else None
    if status is None or ready is None:
        return Check(
            "repository",
            Verdict.FAILED,
            f"{name}: no operator has looked at it",
            f"Tell the platform team: the operator of node {found.spec.storage.node} does not run.",
        ), found
    if ready.status != "True":
        return Check("repository", Verdict.FAILED, f"{name}: {ready.reason}: {ready.message}"), found
    head = f"version {status.head.version}" if status.head is not None else "no version yet"
    return Check("repository", Verdict.OK, f"{name} is ready, {head}, on node {found.spec.storage.node}"), found


def data_plane(kubectl: Kubectl, found: Repository, *, wait: float = 30.0) -> Check:
    """Open the head for reading, or a first version to be made, connect to the node as that says, and close it.

    Only a transaction tells where a node's data plane is, and has made sure that it is let in.
    """
    name = "data plane"
    head = found.status.head if found.status is not None else None
    node = found.spec.storage.node
    try:
        opening = Request(
            repository=found.metadata.name,
            node=node,
            operation="Read" if head is not None else "Init",
            author=kubectl.whoami().name,
            client_key=Identity.make().fingerprint,
            timeout="5m",
            ttl=limits.TTL_READ,
            base=head.version if head is not None else None,
            # Nothing is sent, and it is never asked to commit.
            changes=None if head is not None else Changes(manifest_digest="0" * 64, files=0, size=0),
        )
        with Transaction(kubectl, opening, lambda _: None, Patience(unanswered=wait, pending=wait)) as transaction:
            endpoint = transaction.opened().status.endpoint
        if endpoint is None:
            return Check(name, Verdict.FAILED, f"node {node} names no data plane", "Tell the platform team.")
        return connect(Endpoint(endpoint.url, endpoint.certificate_fingerprint))
    except (KubectlError, TransactionError, ValueError) as error:
        if head is None and isinstance(error, TransactionError) and error.reason == "AccessDenied":
            text = f"not looked at: there is no version to read, and you may not make the first one ({error.message})"
            return Check(name, Verdict.SKIPPED, text)
        return failed(name, error)


def connect(endpoint: Endpoint) -> Check:
    """Connect to a data plane by TLS and compare its certificate with the one that the cluster names."""
    name, at = "data plane", f"{endpoint.host}:{endpoint.port}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the fingerprint below is what counts
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    started = time.monotonic()
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), _CONNECT) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
        ):
            certificate = secured.getpeercert(binary_form=True) or b""
            with suppress(OSError):
                secured.unwrap()
    except OSError as error:
        return Check(
            name,
            Verdict.FAILED,
            f"{at} can't be reached: {error.strerror or error}",
            "Look whether the network, or the VPN, reaches the storage node, and whether a firewall lets this port "
            "through; if so, tell the platform team that the data plane does not answer.",
        )
    if hashlib.sha256(certificate).hexdigest() != endpoint.certificate_fingerprint:
        return Check(
            name,
            Verdict.FAILED,
            f"what answers at {at} has another certificate than the cluster says",
            "Something stands in between, such as a proxy that opens TLS: go round it. If there is none, tell the "
            "platform team before you send anything.",
        )
    return Check(name, Verdict.OK, f"{at} answers, in {time.monotonic() - started:.2f} s, with the right certificate")


def disk(root: Path) -> Check:
    """Look at the free space of a working copy's disk."""
    try:
        free = shutil.disk_usage(root).free
    except OSError as error:
        return Check("disk", Verdict.FAILED, f"{root}: {error.strerror}")
    if free < _LOW_SPACE:
        return Check("disk", Verdict.WARNING, f"{size(free)} free at {root}", "Free some space before the next sync.")
    return Check("disk", Verdict.OK, f"{size(free)} free at {root}")


def summary(checks: list[Check]) -> str:
    """Return one line about all of them."""
    bad = sum(check.verdict is Verdict.FAILED for check in checks)
    doubtful = sum(check.verdict is Verdict.WARNING for check in checks)
    if not bad and not doubtful:
        return "All is well."
    parts = [count(bad, "failure")] if bad else []
    parts += [count(doubtful, "warning")] if doubtful else []
    return ", ".join(parts)
