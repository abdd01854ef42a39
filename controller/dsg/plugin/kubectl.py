"""The Kubernetes API through `kubectl` itself, so that whatever logs a person in there works here too.

Commands are lists of arguments, never a shell's. `KUBECTL` names another binary. What kubectl says on stderr becomes an
error with advice; nothing of it is parsed but the kind of failure.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO, Any

from dsg.workcopy.remote import RemoteError

REQUEST_TIMEOUT = 30
"""Seconds for one request to the API server."""
_TIMEOUT = 180
"""Seconds for one command: a login in a browser is part of it."""
_SILENCE = 3.0
"""Seconds after which what kubectl says is passed on while it runs: it may be asking for a login."""
_CONNECTED = ("Error from server", "The request is invalid")

Object = dict[str, Any]


class KubectlError(RemoteError):
    """A request that failed. `message` says what happened, `advice` what to do, `reason` is one stable word."""

    reason = "KubernetesFailed"

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(f"{message}. {advice}" if advice else message)
        self.message = message
        self.advice = advice


class KubectlMissing(KubectlError):
    """There is no kubectl to run."""

    reason = "KubectlMissing"


class NotLoggedIn(KubectlError):
    """The API server does not know who is asking."""

    reason = "NotLoggedIn"


class Forbidden(KubectlError):
    """The API server knows who is asking, and refuses."""

    reason = "Forbidden"


class NotFound(KubectlError):
    """No such object."""

    reason = "NotFound"


class NotInstalled(KubectlError):
    """The cluster does not know this project's kinds."""

    reason = "NotInstalled"


class Unreachable(KubectlError):
    """No API server answers."""

    reason = "ClusterUnreachable"


class ConfigurationWrong(KubectlError):
    """The kubeconfig is missing, unreadable, or lacks the context that is asked for."""

    reason = "KubeconfigWrong"


class Invalid(KubectlError):
    """The API server says that an object breaks its schema."""

    reason = "Invalid"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where kubectl connects to; empty: whatever kubectl takes by itself."""

    context: str = ""
    namespace: str = ""
    kubeconfig: str = ""

    def flags(self) -> list[str]:
        """Return them as kubectl's arguments."""
        pairs = (("--kubeconfig", self.kubeconfig), ("--context", self.context), ("--namespace", self.namespace))
        return [f"{flag}={value}" for flag, value in pairs if value]


@dataclass(frozen=True, slots=True)
class User:
    """Who somebody is to the API server."""

    name: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """A context of a kubeconfig."""

    name: str
    """Empty inside a cluster, where there is none."""
    namespace: str
    server: str
    """Address of the API server, empty when not known."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has run."""

    code: int
    stdout: str
    stderr: str


class Kubectl:
    """Runs kubectl against one API server and namespace. Every method raises `KubectlError`."""

    def __init__(self, connection: Connection | None = None, binary: str | None = None) -> None:
        self.connection = connection or Connection()
        self._binary = binary or os.environ.get("KUBECTL") or "kubectl"

    # --- objects

    def get(self, kind: str, name: str) -> Object:
        """Return an object."""
        return self._object(["get", kind, name, "--output=json"])

    def list(self, kind: str, *, everywhere: bool = False) -> list[Object]:
        """Return all objects of a kind in the namespace, or in all that there are."""
        flags = ["--all-namespaces"] if everywhere else []
        items = self._object(["get", kind, *flags, "--output=json"]).get("items", [])
        return [item for item in items if isinstance(item, dict)]

    def create(self, body: Mapping[str, Any]) -> Object:
        """Create an object and return it as the server has it."""
        return self._object(["create", "--filename=-", "--output=json"], stdin=json.dumps(body))

    def patch(self, kind: str, name: str, change: Mapping[str, Any], *, shielded: bool = False) -> Object:
        """Change an object by a merge patch (RFC 7396) and return it.

        `shielded` keeps Ctrl-C from ending kubectl: for what must be said before this process ends.
        """
        body = json.dumps(change, separators=(",", ":"))
        return self._object(
            ["patch", kind, name, "--type=merge", f"--patch={body}", "--output=json"], shielded=shielded
        )

    # --- the person and the cluster

    def whoami(self) -> User:
        """Return who the API server takes the caller for (SelfSubjectReview)."""
        info = self._object(["auth", "whoami", "--output=json"]).get("status", {}).get("userInfo", {})
        name = info.get("username")
        if not isinstance(name, str) or not name:
            raise NotLoggedIn("The API server did not say who you are", "Log in to the cluster, then try again.")
        return User(name, tuple(map(str, info.get("groups") or ())))

    def can_i(self, verb: str, resource: str) -> bool:
        """Tell whether the caller may do this to objects of the namespace, by Kubernetes' access rules."""
        done = self.run(["auth", "can-i", verb, resource])
        word = done.stdout.strip().partition(" ")[0]
        if word not in {"yes", "no"}:
            raise failure(done.stderr)
        return word == "yes"

    def versions(self) -> tuple[str, str]:
        """Return the versions of kubectl and of the API server; the latter is empty when it does not answer."""
        done = self.run(["version", "--output=json"])
        try:
            found = json.loads(done.stdout)
        except ValueError:
            raise failure(done.stderr) from None
        client, server = (str(found.get(key, {}).get("gitVersion", "")) for key in ("clientVersion", "serverVersion"))
        return client, server

    def context(self) -> Context:
        """Return the context in use, as the kubeconfig has it."""
        done = self.run(["config", "view", "--minify", "--output=json"])
        if done.code:
            if "current-context must exist" in done.stderr:
                return Context("", self.connection.namespace or "default", "")
            raise failure(done.stderr)
        found = _json(done.stdout)
        contexts = found.get("contexts") or [{}]
        clusters = found.get("clusters") or [{}]
        inside = contexts[0].get("context", {})
        return Context(
            str(found.get("current-context", "")),
            self.connection.namespace or str(inside.get("namespace") or "default"),
            str(clusters[0].get("cluster", {}).get("server", "")),
        )

    def server_time(self) -> tuple[float, float]:
        """Return the API server's clock and this machine's, in seconds since 1970, of the same moment to a second.

        The server's is the Date header of an answer (RFC 9110, section 6.6.1), which kubectl logs from -v=8 on.
        """
        before = time.time()
        done = self.run(["get", "--raw=/version", "-v=8"])
        after = time.time()
        found = re.search(r"\bDate: ?\[?\"?(\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT)", done.stderr)
        if found is None:
            if done.code:
                raise failure(done.stderr)
            raise KubectlError("The API server's answer has no date", "The clock can't be compared.")
        # The header is cut to seconds.
        return parsedate_to_datetime(found[1]).timestamp() + 0.5, (before + after) / 2

    # --- running

    def _object(self, arguments: Sequence[str], stdin: str | None = None, *, shielded: bool = False) -> Object:
        done = self.run(arguments, stdin, shielded=shielded)
        if done.code:
            raise failure(done.stderr)
        return _json(done.stdout)

    def run(self, arguments: Sequence[str], stdin: str | None = None, *, shielded: bool = False) -> Done:
        """Run kubectl and return what came of it, whatever that is. Raises KubectlMissing, and Unreachable in time."""
        flags = [*self.connection.flags(), f"--request-timeout={REQUEST_TIMEOUT}s"]
        argv = [self._binary, *arguments, *flags]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            try:
                process = subprocess.Popen(
                    argv,
                    # A login may ask on the terminal.
                    stdin=subprocess.PIPE if stdin is not None else None,
                    stdout=out,
                    stderr=err,
                    text=True,
                    process_group=0 if shielded else None,
                )
            except FileNotFoundError:
                raise KubectlMissing(
                    f"{self._binary} is not installed, or not on the PATH",
                    "Install kubectl (https://kubernetes.io/docs/tasks/tools/), or name it in KUBECTL.",
                ) from None
            except OSError as error:
                raise KubectlMissing(f"{self._binary} can't be run: {error.strerror}", "Correct KUBECTL.") from None
            try:
                if stdin is not None and process.stdin is not None:
                    _feed(process.stdin, stdin)
                self._wait(process, err)
            except BaseException:
                process.kill()
                process.wait()
                raise
            out.seek(0)
            err.seek(0)
            return Done(process.returncode, out.read(), err.read())

    def _wait(self, process: subprocess.Popen[str], err: IO[str]) -> None:
        started = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SILENCE)
        told = 0
        while process.poll() is None:
            if time.monotonic() - started > _TIMEOUT:
                raise Unreachable(
                    f"kubectl did not end within {_TIMEOUT} seconds",
                    "Look whether the API server answers, and try again.",
                )
            told += _pass_on(err, told)
            time.sleep(0.05)


def _feed(pipe: IO[str], text: str) -> None:
    # kubectl may end without having read; its own message says why.
    try:
        pipe.write(text)
        pipe.close()
    except BrokenPipeError:
        pass


def _pass_on(err: IO[str], told: int) -> int:
    """Write what kubectl has said since to stderr; return how many bytes."""
    more = os.pread(err.fileno(), 65536, told)
    sys.stderr.write(more.decode(errors="replace"))
    sys.stderr.flush()
    return len(more)


def _json(text: str) -> Object:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise KubectlError("kubectl answered with something that is no object", "Look at what `kubectl version` says.")
    return found


_LOGIN = "Log in to the cluster as you do for kubectl (`kubectl auth whoami` shows whether it worked), then try again."
_NETWORK = "Look whether the network, or the VPN, is up and `kubectl version` answers, then try again."
_KUBECONFIG = "`kubectl config get-contexts` lists what there is; --context and --kubeconfig choose."

_FAILURES: tuple[tuple[str, type[KubectlError], str], ...] = (
    (r"denied request: ", Forbidden, ""),
    (
        r"\(Forbidden\)|is forbidden:|\(403\)",
        Forbidden,
        "Ask who administers the cluster; `kubectl dsg doctor` lists what you may do.",
    ),
    (
        r"\(Unauthorized\)|must be logged in to the server|\(401\)|getting credentials:|provide credentials",
        NotLoggedIn,
        _LOGIN,
    ),
    (
        r"doesn't have a resource type|no matches for kind|could not find the requested resource",
        NotInstalled,
        "Ask the platform team to install dsg in this cluster, or choose another one with --context.",
    ),
    (r"\(NotFound\)", NotFound, ""),
    (r"\(Invalid\)|\(BadRequest\)|is invalid:|strict decoding error", Invalid, ""),
    (
        r"localhost:8080 was refused",
        ConfigurationWrong,
        "That is where kubectl looks when it has no kubeconfig: get one from the platform team, and put it at "
        "~/.kube/config, or name it in KUBECONFIG or --kubeconfig.",
    ),
    (
        r"context .* does not exist|no context exists|context was not found|no configuration has been provided"
        r"|error loading config file|no server found for cluster|Missing or incomplete configuration"
        r"|stat .*: no such file or directory|current-context must exist",
        ConfigurationWrong,
        _KUBECONFIG,
    ),
    (
        r"x509:|tls: |certificate signed by|server gave HTTP response to HTTPS client",
        Unreachable,
        "The server's certificate is not the one of the kubeconfig: get the kubeconfig anew from the platform team.",
    ),
    (
        r"Unable to connect|connection to the server|dial tcp|i/o timeout|no such host|connection refused|TLS handshake"
        r"|deadline exceeded|Client\.Timeout|\bEOF\b|\(ServiceUnavailable\)|\(Timeout\)|currently unable to handle"
        r"|request timed out|etcdserver|\(TooManyRequests\)|\(InternalError\)",
        Unreachable,
        _NETWORK,
    ),
)
"""What kubectl's words mean, the first that fits; the words are kubectl's and client-go's (1.28 to 1.37)."""


def failure(stderr: str) -> KubectlError:
    """Return the error that stands for what kubectl said."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not _is_log(line)]
    text = lines[-1] if lines else ""
    whole = "\n".join(lines)
    for pattern, kind, advice in _FAILURES:
        if re.search(pattern, whole):
            return kind(_sentence(_last_matching(lines, pattern)), advice)
    return KubectlError(_sentence(text) or "kubectl failed and did not say why", "")


def _is_log(line: str) -> bool:
    """Tell whether a line is klog's, such as `E1125 12:00:00.000000 …`."""
    return re.match(r"[EWIF]\d{4} \d\d:\d\d:\d\d", line) is not None


def _last_matching(lines: Sequence[str], pattern: str) -> str:
    return next((line for line in reversed(lines) if re.search(pattern, line)), lines[-1] if lines else "")


def _sentence(text: str) -> str:
    """Return kubectl's message without its prefixes: who says it is clear."""
    text = re.sub(r"^(error: |Error: |Error from server \(\w+\): |Error from server: )+", "", text)
    text = re.sub(r'^error when (creating|retrieving) "STDIN": ', "", text)
    denied = re.search(r"denied request: (.*)", text)
    return (denied[1] if denied else text).rstrip(".")
