"""Who talks to whom, what is made again, and what is said when nothing helps."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from dsg.transfer.client import (
    Connection,
    Endpoint,
    GrantOver,
    Identity,
    Persistence,
    Reader,
    Refused,
    Unreachable,
    Writer,
    WrongServer,
)
from tests.transfer_client.relay import Relay
from tests.transfer_client.world import QUICK, World, free_port, make_stage, make_version


def test_a_version_is_opened_with_the_certificate_of_its_transaction(
    world: World, uid: str, identity: Identity, tmp_path: Path
) -> None:
    header = make_version(tmp_path / "s1", {"a": b"a"})
    world.grant_reading(uid, identity, tmp_path / "s1")
    with world.connect(uid, identity) as connection:
        assert Reader(connection).header() == header


def test_another_certificate_gets_nowhere(world: World, uid: str, identity: Identity, tmp_path: Path) -> None:
    make_version(tmp_path / "s1", {"a": b"a"})
    world.grant_reading(uid, identity, tmp_path / "s1")
    with pytest.raises(Refused, match="certificate"):
        world.connect(uid, Identity.make())


def test_a_transaction_that_is_over_is_told_as_that(world: World, uid: str, identity: Identity, tmp_path: Path) -> None:
    with pytest.raises(GrantOver):
        world.connect(uid, identity)
    world.grant_writing(uid, identity, make_stage(tmp_path / "stage"))
    with world.connect(uid, identity) as connection:
        world.end(uid)
        with pytest.raises(GrantOver, match="transaction"):
            Writer(connection).complete()


def test_another_server_is_told_nothing(world: World, uid: str, identity: Identity) -> None:
    told = len((world.directory / "log").read_bytes())
    wrong = Endpoint(f"https://127.0.0.1:{world.port}", "0" * 64)
    with pytest.raises(WrongServer, match=r"127\.0\.0\.1.*certificate is another.*Nothing was sent"):
        Connection.open(wrong, uid, identity, persistence=QUICK)
    assert told == len((world.directory / "log").read_bytes())


def test_the_server_is_looked_at_in_each_connection_not_in_the_first_only(
    world: World, own_world: World, uid: str, identity: Identity, tmp_path: Path
) -> None:
    make_version(tmp_path / "s1", {"a": b"a"})
    world.grant_reading(uid, identity, tmp_path / "s1")
    with Relay(world.port) as relay, world.connect(uid, identity, relay.port) as connection:
        assert Reader(connection).header() is not None
        relay.target = own_world.port
        relay.cut()
        with pytest.raises(WrongServer):
            Reader(connection).header()


def test_a_server_without_tls_1_3_is_none(world: World, uid: str, identity: Identity) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    state = world.directory / "state"
    context.load_cert_chain(state / "certificate.pem", state / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client, pytest.raises((ssl.SSLError, OSError)), context.wrap_socket(client, server_side=True):
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        endpoint = Endpoint(f"https://127.0.0.1:{listening.getsockname()[1]}", world.fingerprint)
        with pytest.raises(WrongServer, match=r"TLS 1\.3"):
            Connection.open(endpoint, uid, identity, persistence=QUICK)
        thread.join()


def test_where_nobody_listens_it_is_tried_five_times_and_then_told(uid: str, identity: Identity) -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=rf"https://127\.0\.0\.1:{port} .* 5 times: Connection refused"):
        Connection.open(Endpoint(f"https://127.0.0.1:{port}", "0" * 64), uid, identity, persistence=QUICK)


def test_a_server_that_is_back_in_time_is_not_noticed(
    world: World, relay: Relay, uid: str, identity: Identity, tmp_path: Path
) -> None:
    make_version(tmp_path / "s1", {"a": b"a"})
    world.grant_reading(uid, identity, tmp_path / "s1")
    relay.refusing = True
    threading.Timer(0.3, lambda: setattr(relay, "refusing", False)).start()
    slow = Persistence(tries=5, pause=0.2)
    with Connection.open(world.endpoint(relay.port), uid, identity, persistence=slow) as connection:
        assert Reader(connection).header() is not None
    assert relay.connections > 2


def test_a_server_that_was_started_anew_is_told_the_certificate_again(
    own_world: World, uid: str, identity: Identity, tmp_path: Path
) -> None:
    make_version(tmp_path / "s1", {"a": b"a"})
    own_world.grant_reading(uid, identity, tmp_path / "s1")
    with own_world.connect(uid, identity) as connection:
        assert Reader(connection).header() is not None
        own_world.kill()
        own_world.start()
        assert Reader(connection).header() is not None


def test_a_server_that_says_nothing_is_given_up(uid: str, identity: Identity) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = Endpoint(f"https://127.0.0.1:{listening.getsockname()[1]}", "0" * 64)
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="nothing came for too long"):
            Connection.open(
                endpoint, uid, identity, persistence=Persistence(tries=2, pause=0.01), idle=0.2, connect=0.2
            )
        assert time.monotonic() - begun < 5
