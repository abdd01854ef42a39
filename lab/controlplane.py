"""A real Kubernetes API on this machine: etcd and kube-apiserver, several users, and a log of every request.

Ready in three to ten seconds. There is no controller-manager, so nothing empties namespaces that are being deleted,
collects garbage by owner reference, or makes ServiceAccount tokens.
"""

import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import audit, binaries
from lab.cache import tail
from lab.credentials import GUEST_VIEW_OF_HOST, USERS, Credentials, write_private
from lab.errors import LabError
from lab.processes import Process, free_port, recorded, spawn

READY_TIMEOUT = 120
_KUBECTL_TIMEOUT = 60


class ControlPlane(AbstractContextManager["ControlPlane"]):
    """etcd and kube-apiserver with their whole state in `directory`.

    `with ControlPlane(tmp_path) as api: api.kubectl("admin", "get", "ns")`. Ports are chosen once and kept with
    the data, so that kubeconfigs stay true over a restart. `tied` children die with this process; `lab up` leaves them
    running.
    """

    def __init__(self, directory: Path, *, port: int | None = None, tied: bool = True) -> None:
        self.directory = directory
        self.tied = tied
        self.credentials = Credentials(directory / "credentials")
        self.audit_log = directory / "audit.jsonl"
        self._wanted_port = port
        self._settings = directory / "ports.json"
        self._etcd_pid = directory / "etcd.pid"
        self._api_pid = directory / "kube-apiserver.pid"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The TCP port of the API server on 127.0.0.1."""
        return self._ports()["api"]

    @property
    def url(self) -> str:
        """The server's URL from this machine."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def guest_url(self) -> str:
        """The server's URL from inside a guest."""
        return f"https://{GUEST_VIEW_OF_HOST}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether both processes run."""
        return recorded(self._etcd_pid) is not None and recorded(self._api_pid) is not None

    def _ports(self) -> dict[str, int]:
        if self._settings.exists():
            ports: dict[str, int] = json.loads(self._settings.read_text())
            return ports
        ports = {"api": self._wanted_port or free_port(), "etcd": free_port(), "peer": free_port()}
        self._settings.write_text(json.dumps(ports) + "\n")
        return ports

    def start(self) -> None:
        """Start what does not run and wait until the API is ready; a second call changes nothing.

        Raises `LabError` with the end of the failing program's log.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.credentials.ensure()
        etcd, api = binaries.etcd(), binaries.kube_apiserver()
        self._ports()
        (self.directory / "audit-policy.yaml").write_text(audit.POLICY)
        if recorded(self._etcd_pid) is None:
            self._start_etcd(etcd)
        if recorded(self._api_pid) is None:
            self._start_api(api)
        self.wait_ready()

    def _start_etcd(self, program: Path) -> Process:
        ports = self._ports()
        client, peer = f"http://127.0.0.1:{ports['etcd']}", f"http://127.0.0.1:{ports['peer']}"
        argv = [
            str(program),
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        return spawn(argv, self.directory / "etcd.log", self._etcd_pid, tied=self.tied)

    def _start_api(self, program: Path) -> Process:
        ports, files = self._ports(), self.credentials
        argv = [
            str(program),
            f"--etcd-servers=http://127.0.0.1:{ports['etcd']}",
            f"--cert-dir={self.directory / 'certificates'}",
            f"--tls-cert-file={files.serving_certificate}",
            f"--tls-private-key-file={files.serving_key}",
            "--bind-address=127.0.0.1",
            f"--secure-port={ports['api']}",
            # Without a cluster network nobody needs the `kubernetes` Service, and loopback is no legal endpoint.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--service-account-key-file={files.service_account_key}",
            f"--service-account-signing-key-file={files.service_account_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={files.token_file}",
            "--authorization-mode=RBAC",
            # As every cluster with storage drivers has it: the operator's container is privileged.
            "--allow-privileged=true",
            "--disable-admission-plugins=ServiceAccount",
            f"--audit-policy-file={self.directory / 'audit-policy.yaml'}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-format=json",
            # One file, so that a byte offset keeps its meaning.
            "--audit-log-maxsize=4096",
        ]
        return spawn(argv, self.directory / "kube-apiserver.log", self._api_pid, tied=self.tied)

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until `/readyz` answers ok. Raises `LabError` when a process ends or `timeout` seconds have passed."""
        context = ssl.create_default_context(cafile=str(self.credentials.ca))
        request = urllib.request.Request(
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.credentials.token('admin')}"}
        )
        deadline = time.monotonic() + timeout
        while True:
            for name, pid_file in (("etcd", self._etcd_pid), ("kube-apiserver", self._api_pid)):
                if recorded(pid_file) is None:
                    log = self.directory / f"{name}.log"
                    raise LabError(f"{name} ended before it was ready. Its log is {log}; it ends:\n{tail(log)}")
            try:
                with urllib.request.urlopen(request, timeout=5, context=context):
                    return
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code}"
            except (urllib.error.URLError, OSError) as error:
                problem = str(error)
            if time.monotonic() > deadline:
                log = self.directory / "kube-apiserver.log"
                raise LabError(
                    f"the API server at {self.url} is not ready after {timeout:.0f} s ({problem}); it still runs. "
                    f"Its log is {log}; it ends:\n{tail(log)}"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop both; the data stays. Nothing happens when they don't run."""
        # The API server would wait a minute for open watches; its state is etcd's, so nothing is lost.
        if api := recorded(self._api_pid):
            api.end(grace=2)
        if etcd := recorded(self._etcd_pid):
            etcd.end()
        for file in (self._api_pid, self._etcd_pid):
            file.unlink(missing_ok=True)

    def kill_api(self) -> None:
        """`kill -9` of the API server alone; clients see a refused connection until `start` or `restart`."""
        if api := recorded(self._api_pid):
            api.kill()
        self._api_pid.unlink(missing_ok=True)

    def restart(self) -> None:
        """`kill -9` of both, then start again on the same ports and data. etcd's page cache survives a mere kill."""
        self.kill_api()
        if etcd := recorded(self._etcd_pid):
            etcd.kill()
        self._etcd_pid.unlink(missing_ok=True)
        self.start()

    def destroy(self) -> None:
        """Stop, and remove the directory with all its data."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kubeconfig(self, user: str, for_guest: bool = False) -> Path:
        """The kubeconfig file (mode 0600) of one of `USERS`, for this machine or for use inside a guest.

        Raises `LabError` for an unknown user.
        """
        if user not in USERS:
            raise LabError(f"the lab has no user {user!r}; it has {', '.join(USERS)}")
        folder = self.directory / "kubeconfigs"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / (f"{user}.guest.yaml" if for_guest else f"{user}.yaml")
        content = self.credentials.kubeconfig(user, self.guest_url if for_guest else self.url)
        # kubectl may have stored a namespace in it; only a change of server or token makes it ours to rewrite.
        marker = self.credentials.token(user).encode()
        server = (self.guest_url if for_guest else self.url).encode()
        if not path.exists() or marker not in (old := path.read_bytes()) or server not in old:
            write_private(path, content)
        return path

    def kubectl(
        self,
        user: str,
        *args: str,
        input: str | None = None,  # the name subprocess.run uses
        check: bool = True,
        timeout: float = _KUBECTL_TIMEOUT,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as a user; output is captured as text, `timeout` in seconds.

        Raises `LabError` with kubectl's own words when it fails and `check` is true.
        """
        argv = [str(binaries.kubectl()), f"--kubeconfig={self.kubeconfig(user)}", *args]
        result = subprocess.run(argv, input=input, capture_output=True, text=True, timeout=timeout, check=False)
        if check and result.returncode != 0:
            raise LabError(
                f"kubectl {' '.join(args)} as {user} failed with exit code {result.returncode}:\n"
                f"{result.stderr.strip() or result.stdout.strip()}"
            )
        return result

    def audit_mark(self) -> int:
        """A place in the audit log: `requests(since=mark)` are the requests from now on."""
        try:
            return self.audit_log.stat().st_size
        except FileNotFoundError:
            return 0

    def requests(self, user: str | None = None, since: int = 0) -> list[audit.Request]:
        """The requests answered since `since` (from `audit_mark`), of one user by the lab's short name or of all.

        A request is in the log before its caller has the answer; watches are logged when they begin.
        """
        name = USERS[user].name if user else None
        return [r for r in audit.requests(self.audit_log, since) if name is None or r.user == name]
