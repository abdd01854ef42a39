"""A storage node on real parts whose processes are scraped, and what is broken there so that its alerts fire."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from prometheus_client.parser import text_string_to_metric_families

from dsg.manifests.changes import encode_change
from lab.node import DATA_PLANE_PORT, PYTHON
from tests.e2e.cluster import NAMESPACE, Cluster, pool, repository, wait
from tests.e2e.conftest import QUICK
from tests.e2e.test_e2e_transactions import SEND
from tests.operations.promtool import Pages, Scenario
from tests.operations.test_rules import HEALTHY, HOLD, REPAIRED
from tests.reconcile.test_transactions import transaction
from tests.transactions.ground import change_list

NODE, SHELF, PLANE_METRICS = "node-b", "shelf", 8081
OPERATOR, OTHER, MONITOR, PLANE = "node-b:8080", "node-a:8080", "monitor:8080", "node-b:8081"
AUDIT = "/var/lib/dsg-audit"
CONNECTIONS = 6
"""How many the data plane takes at a time."""
SIGHT = 150
"""Seconds until what was made is seen, at most."""
_FETCH = "import sys, urllib.request as u; sys.stdout.write(u.urlopen('http://127.0.0.1:%d/metrics').read().decode())"
_EXCHANGE = "/srv/{pool}/.{name}/.open/stage-{uid}/.dsg/incoming"


class Way:
    """The network between a node and the API server: once it is cut, nothing comes through and nothing is refused."""

    def __init__(self, port: int) -> None:
        """`port` is where the API server listens."""
        self._target = port
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.mend()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            self._open.wait()
            there = socket.create_connection(("127.0.0.1", self._target))
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._open.wait()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
        source.close()


class Scraped:
    """A storage node whose three processes are scraped."""

    def __init__(self, cluster: Cluster, monitor_port: int, directory: Path) -> None:
        self.cluster = cluster
        self.node = cluster.node(NODE)
        self.way = Way(int(cluster.api.port))
        self._monitor = monitor_port
        self._directory = directory
        self.well: Pages = {}
        """What was shown before anything was broken."""

    def start_plane(self) -> None:
        """Start the node's data plane."""
        grants = self.node.data_plane_arguments()[:2]
        listen = ("--listen", f"0.0.0.0:{DATA_PLANE_PORT}", "--metrics-listen", f"127.0.0.1:{PLANE_METRICS}")
        more = ("--state", "/var/lib/dsg-data-plane", "--connections", str(CONNECTIONS))
        self.node.start_data_plane((*grants, *listen, *more))

    def start_operator(self) -> None:
        """Start the node's operator, which reaches the API server by a way of its own."""
        direct = self.cluster.api.kubeconfig("operator", for_guest=True).read_text()
        kubeconfig = self._directory / "operator.yaml"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(direct.replace(f":{self.cluster.api.port}", f":{self.way.port}"))
        self.cluster.lab.install(NODE)
        audit = ("--audit", f"{AUDIT}/operator.jsonl")
        self.node.start_operator(NODE, kubeconfig, (*QUICK, *audit, *self.node.data_plane_arguments()))

    def operator(self) -> str:
        """Return the page of the node's operator; empty where it does not answer."""
        return self._get(self.node.forwarded(8080))

    def monitor(self) -> str:
        return self._get(self._monitor)

    def plane(self) -> str:
        return self.node.run(PYTHON, "-c", _FETCH % PLANE_METRICS, check=False).stdout

    @staticmethod
    def _get(port: int) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def pages(self) -> Pages:
        other = self._get(self.cluster.node("node-a").forwarded(8080))
        found = {OPERATOR: self.operator(), OTHER: other, MONITOR: self.monitor(), PLANE: self.plane()}
        return {address: text for address, text in found.items() if text}

    # --- Transactions, as alice opens them

    def open(self, name: str, of: str, operation: str, content: Mapping[str, str], **spec: Any) -> None:
        """Ask for a transaction."""
        made = {path: text.encode() for path, text in content.items()}
        obj = transaction(name, operation, content=made, repositoryRef={"name": of}, node=NODE, **spec)
        self.cluster.apply(obj, user="alice")

    def phase(self, name: str) -> str:
        return str((self.cluster.get(name, "synctransaction").get("status") or {}).get("phase"))

    def intend(self, name: str, intent: str) -> None:
        patch = json.dumps({"spec": {"intent": intent}})
        argv = ("patch", "synctransaction", name, "-n", NAMESPACE, "--type=merge", "-p", patch)
        self.cluster.api.kubectl("alice", *argv)

    def commit(self, name: str, of: str, operation: str, before: Mapping[str, str], wanted: Mapping[str, str]) -> None:
        """Make a version whose content the data plane would have been sent."""
        base = {} if operation == "Init" else {"base": "s1"}
        self.open(name, of, operation, wanted, **base)
        wait(f"{name} staged", lambda: self.phase(name) == "Staging", SIGHT)
        uid = self.cluster.get(name, "synctransaction")["metadata"]["uid"]
        files = {blake3(text.encode()).hexdigest(): text for text in wanted.values()}
        old, new = ({path: text.encode() for path, text in one.items()} for one in (before, wanted))
        files["changes"] = b"".join(encode_change(change) for change in change_list(dict(old), dict(new))).decode()
        place = _EXCHANGE.format(pool=SHELF, name=of, uid=uid)
        self.node.run(PYTHON, "-c", SEND, place, json.dumps(files))
        self.intend(name, "Commit")
        wait(f"{name} committed", lambda: self.phase(name) == "Committed", SIGHT)

    def forget(self, *names: str) -> None:
        """Delete transactions."""
        self.cluster.api.kubectl("admin", "delete", "synctransaction", *names, "-n", NAMESPACE, "--ignore-not-found")

    # --- Connections to the data plane that have no certificate

    @contextmanager
    def caller(self) -> Iterator[ssl.SSLSocket]:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        address = ("127.0.0.1", self.node.forwarded(DATA_PLANE_PORT))
        with socket.create_connection(address, timeout=30) as plain, trust.wrap_socket(plain) as secure:
            yield secure

    def knock(self) -> None:
        """Ask for something without a certificate."""
        with self.caller() as secure:
            secure.sendall(b"GET /v1/version HTTP/1.1\r\nHost: plane\r\nConnection: close\r\n\r\n")
            while secure.recv(1 << 12):
                pass

    def crowd(self, times: int) -> None:
        """Hold all connections that there are, and try so many times for one more."""
        with ExitStack() as held:
            for _ in range(CONNECTIONS):
                held.enter_context(self.caller())
            for _ in range(times):
                with suppress(OSError), self.caller() as secure:
                    secure.recv(1)


def samples(page: str) -> dict[tuple[str, str], float]:
    """Return a page's samples by name and labels."""
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(page: str, name: str, labels: Mapping[str, str] | None = None) -> float:
    """Return the sum of a page's samples with these labels, and 0 where there is none."""
    wanted = (labels or {}).items()
    return sum(
        number
        for (named, text), number in samples(page).items()
        if named == name and json.loads(text).items() >= wanted
    )


def going_on(first: Pages, second: Pages, seconds: float, minutes: int) -> list[tuple[int, Pages]]:
    """Return what is shown, minute after minute, where counters go on as they did in the seconds between two looks."""
    course: list[tuple[int, Pages]] = []
    for minute in range(1, minutes + 1):
        pages = {}
        for address, text in second.items():
            old, lines = samples(first.get(address, "")), []
            for (name, labels), number in samples(text).items():
                grown = (
                    (number - old.get((name, labels), 0.0)) * 60 * minute / seconds if name.endswith("_total") else 0
                )
                shown = ",".join(f"{key}={json.dumps(word)}" for key, word in json.loads(labels).items())
                lines.append(f"{name}{{{shown}}} {number + grown}")
            pages[address] = "\n".join(lines) + "\n"
        course.append((1, pages))
    return course


@dataclass(frozen=True)
class Cause:
    """What makes an alert fire, and what ends it. Its sample says on the page of a process whether it is there."""

    alert: str
    sample: str
    labels: Mapping[str, str]
    make: Callable[[], object]
    mend: Callable[[], object] = lambda: None
    above: float = 0.0
    counts: bool = False
    """Whether the sample only grows: it shows that something has happened, and its alert ends by itself."""
    page: Callable[[Scraped], str] = Scraped.operator

    def shown(self, scraped: Scraped) -> float:
        return abs(value(self.page(scraped), self.sample, self.labels))


def course(scraped: Scraped, causes: Sequence[Cause], before: Pages | None = None) -> list[Scenario]:
    """Make some causes together and mend them; return what their alerts should have done meanwhile.

    `before` is given where causes are there already: what was shown before them.
    """
    limits = [one.above + (one.shown(scraped) if one.counts else 0) for one in causes]
    if before is None:
        for one, limit in zip(causes, limits, strict=True):
            assert one.shown(scraped) <= limit, f"{one.alert}: its cause is there before it was made"
        before = scraped.pages()
    try:
        for one in causes:
            one.make()
        for one, limit in zip(causes, limits, strict=True):
            wait(f"{one.alert}: the cause to show", lambda: one.shown(scraped) > limit, SIGHT)  # noqa: B023
    except BaseException:
        # What comes after is to find the node well.
        for one in causes:
            with suppress(Exception):
                one.mend()
        raise
    during = scraped.pages()
    for one in causes:
        one.mend()
    for one, limit in zip(causes, limits, strict=True):
        if not one.counts:
            wait(f"{one.alert}: the cause to go", lambda: one.shown(scraped) <= limit, SIGHT)  # noqa: B023
    after = scraped.pages()
    scenarios = []
    for one in causes:
        seen = [(HEALTHY, before), (HOLD[one.alert] + 2, during)]
        scenarios.append(Scenario(f"{one.alert} fires", seen, frozenset([one.alert]), one.alert))
        scenarios.append(Scenario(f"{one.alert} ends", [*seen, (REPAIRED, after)], frozenset(), one.alert))
    return scenarios


def growing(
    scraped: Scraped, alerts: Sequence[str], seconds: float, happen: Callable[[float], object]
) -> list[Scenario]:
    """Let something happen for some seconds; return what alerts about its rate should do while it goes on, and after.

    `happen` is given the seconds for which to go on.
    """
    before = scraped.pages()
    began = time.monotonic()
    happen(seconds)
    after = scraped.pages()
    passed = time.monotonic() - began
    scenarios = []
    for alert in alerts:
        seen = [(HEALTHY, before), *going_on(before, after, passed, HOLD[alert] + 17)]
        scenarios.append(Scenario(f"{alert} fires", seen, frozenset([alert]), alert))
        scenarios.append(Scenario(f"{alert} ends", [*seen, (REPAIRED, seen[-1][1])], frozenset(), alert))
    return scenarios


def offer(pool_name: str, mount_root: str, **thresholds: int) -> dict[str, Any]:
    """Return the StoragePool of one more pool of the node."""
    made = pool(NODE)
    made["metadata"]["name"] = f"{NODE}-{pool_name}"
    made["spec"]["storage"] |= {"pool": pool_name, "root": f"{pool_name}/dsg", "mountRoot": mount_root}
    made["spec"]["thresholds"] = {"capacityPercent": 90, **thresholds}
    return made


def placed(name: str, pool_name: str = SHELF, **spec: Any) -> dict[str, Any]:
    """Return a Repository in such a pool, into which alice may write."""
    storage = {"pool": pool_name, "dataset": f"{pool_name}/dsg/{name}", "mountpoint": f"/srv/{pool_name}/{name}"}
    return repository(name, node=NODE, storage=storage, **{"access": {"writers": {"users": ["alice"]}}, **spec})


def small(name: str, quota: str = "16Mi", **spec: Any) -> dict[str, Any]:
    """Return one with little room."""
    made = placed(name, **spec)
    made["spec"]["storage"]["properties"] |= {"quota": quota, "refquota": quota}
    return made
