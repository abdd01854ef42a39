"""kopf's session is as good as its own: every way to prove who we are, replaced tokens, and 401 without a storm."""

import asyncio
import base64
import datetime
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import kubernetes.client
import kubernetes.config
import pytest
import trustme
import yaml
from aiohttp import web
from kubernetes.config.incluster_config import InClusterConfigLoader

from dsg.telemetry.health import Heartbeats
from dsg.telemetry.login import CredentialsError, login_function, session_for
from tests.telemetry.kube import GROUP, PLURAL, RESOURCE, api_server
from tests.telemetry.support import Clock


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, name: str = "127.0.0.1", *, client: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    if client:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def kubeconfig(
    directory: Path, server: str, cluster: dict[str, Any], user: dict[str, Any]
) -> kubernetes.client.ApiClient:
    """Write a kubeconfig and return a client as the operator loads it."""
    path = directory / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(content))
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(config_file=str(path), client_configuration=configuration)  # type: ignore[no-untyped-call]
    return kubernetes.client.ApiClient(configuration)


async def status(client: kubernetes.client.ApiClient, path: str = "/apis") -> int:
    """Ask the server something through a new session."""
    found = await session_for(client, Heartbeats())
    async with found.aiohttp_session as session, session.get(found.server + path) as response:
        return response.status


def test_a_token(tmp_path: Path, authority: trustme.CA) -> None:
    async def main() -> None:
        async with api_server(serving(authority)) as server:
            server.token = "secret-one"
            trust = {"certificate-authority-data": b64(authority.cert_pem.bytes())}
            assert await status(kubeconfig(tmp_path, server.url, trust, {"token": "secret-one"})) == 200
            assert await status(kubeconfig(tmp_path, server.url, trust, {"token": "other"})) == 401
            (tmp_path / "token").write_text("secret-one\n")
            assert await status(kubeconfig(tmp_path, server.url, trust, {"tokenFile": "token"})) == 200
            assert server.headers[0]["User-Agent"].startswith("dsg-operator/")

    asyncio.run(main())


def test_a_user_and_password(tmp_path: Path) -> None:
    async def main() -> None:
        async with api_server() as server:
            await status(kubeconfig(tmp_path, server.url, {}, {"username": "alice", "password": "pw"}))
            assert server.headers[0]["Authorization"] == f"Basic {b64(b'alice:pw')}"

    asyncio.run(main())


def test_a_client_certificate_and_no_key_left_on_disk(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = authority.issue_cert("dsg-operator")
    user = {
        "client-certificate-data": b64(b"".join(pem.bytes() for pem in mine.cert_chain_pems)),
        "client-key-data": b64(mine.private_key_pem.bytes()),
    }
    trust = {"certificate-authority-data": b64(authority.cert_pem.bytes())}

    async def main() -> None:
        async with api_server(serving(authority, client=True)) as server:
            client = kubeconfig(tmp_path, server.url, trust, user)
            empty = tmp_path / "empty"
            empty.mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(empty))
            assert await status(client) == 200
            assert "Authorization" not in server.headers[0]
            assert list(empty.iterdir()) == []
            monkeypatch.undo()
            nobody = kubeconfig(tmp_path, server.url, trust, {})
            with pytest.raises(aiohttp.ClientError):
                await status(nobody)

    asyncio.run(main())


def test_a_server_is_believed_only_for_its_ca_and_name(tmp_path: Path, authority: trustme.CA) -> None:
    async def main() -> None:
        trust = {"certificate-authority-data": b64(authority.cert_pem.bytes())}
        async with api_server(serving(authority, "api.internal")) as server:
            for cluster in (trust, {"certificate-authority-data": b64(trustme.CA().cert_pem.bytes())}, {}):
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await status(kubeconfig(tmp_path, server.url, cluster, {}))
            named = {**trust, "tls-server-name": "api.internal"}
            assert await status(kubeconfig(tmp_path, server.url, named, {})) == 200
            assert await status(kubeconfig(tmp_path, server.url, {"insecure-skip-tls-verify": True}, {})) == 200

    asyncio.run(main())


def test_a_pods_token_that_is_replaced_is_used_from_then_on(tmp_path: Path, authority: trustme.CA) -> None:
    (tmp_path / "token").write_text("secret-one\n")
    (tmp_path / "ca.crt").write_bytes(authority.cert_pem.bytes())

    async def main() -> None:
        async with api_server(serving(authority)) as server:
            server.token = "secret-one"
            host, port = server.url.removeprefix("https://").split(":")
            environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
            loader: Any = InClusterConfigLoader(  # type: ignore[no-untyped-call]
                str(tmp_path / "token"), str(tmp_path / "ca.crt"), environ=environ
            )
            configuration = kubernetes.client.Configuration()
            loader.load_and_set(configuration)
            found = await session_for(kubernetes.client.ApiClient(configuration), Heartbeats())
            async with found.aiohttp_session as session:
                async with session.get(found.server + "/apis") as response:
                    assert response.status == 200
                (tmp_path / "token").write_text("secret-two\n")
                server.token = "secret-two"
                # A minute goes by.
                loader.token_expires_at = datetime.datetime.now()
                async with session.get(found.server + "/apis") as response:
                    assert response.status == 200

    asyncio.run(main())


def test_credentials_do_not_follow_a_redirect_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with api_server() as other, api_server() as server:

            async def away(_request: web.Request) -> web.Response:
                raise web.HTTPTemporaryRedirect(f"{other.url}/apis")

            app = web.Application()
            app.router.add_get("/away", away)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            assert await status(kubeconfig(tmp_path, url, {}, {"token": "secret"}), "/away") == 200
            await status(kubeconfig(tmp_path, server.url, {}, {"token": "secret"}))
            await runner.cleanup()
            assert "Authorization" not in other.headers[0] and "Authorization" in server.headers[0]

    asyncio.run(main())


def test_useless_credentials_say_why(tmp_path: Path) -> None:
    async def main() -> None:
        client = kubeconfig(tmp_path, "https://127.0.0.1:1", {}, {})
        client.configuration.cert_file = "half.pem"
        with pytest.raises(CredentialsError, match="one is missing"):
            await session_for(client, Heartbeats())
        client.configuration.key_file = "half.key"
        with pytest.raises(CredentialsError, match=r"https://127\.0\.0\.1:1 can't be used: .*No such file"):
            await session_for(client, Heartbeats())

        def plugin(_configuration: object) -> None:
            raise RuntimeError("plugin exited with 1")

        client.configuration.refresh_api_key_hook = plugin
        with pytest.raises(CredentialsError, match="plugin exited with 1"):
            await session_for(client, Heartbeats())

    asyncio.run(main())


Login = Callable[..., Awaitable[kopf.AiohttpSession]]


def client_with(token: str, server: str = "http://127.0.0.1:1") -> kubernetes.client.ApiClient:
    configuration = kubernetes.client.Configuration()
    configuration.host = server
    configuration.api_key["BearerToken"] = f"Bearer {token}"
    return kubernetes.client.ApiClient(configuration)


async def accepted(login: Login) -> bool:
    try:
        found = await login()
    except kopf.TemporaryError:
        return False
    await found.aiohttp_session.close()
    return True


def test_refused_credentials_are_offered_more_and_more_rarely_but_for_ever() -> None:
    async def main() -> None:
        clock = Clock()
        client = client_with("one")
        login = login_function(client, Heartbeats(), clock=clock)
        assert await accepted(login)
        assert await accepted(login), "the first refusal may be an accident"
        pauses = []
        for _ in range(9):
            waited = 0.0
            while not await accepted(login):
                clock.wait(0.5)
                waited += 0.5
            pauses.append(waited)
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        client.configuration.api_key["BearerToken"] = "Bearer two"
        assert await accepted(login), "new credentials need no waiting"
        clock.wait(3600)
        assert await accepted(login) and await accepted(login), "what worked for an hour gets a fresh start"

    asyncio.run(main())


def test_kopf_is_told_when_to_come_back() -> None:
    async def main() -> None:
        clock = Clock()
        login = login_function(client_with("secret-one"), Heartbeats(), clock=clock)
        assert await accepted(login) and await accepted(login)
        clock.wait(0.25)
        with pytest.raises(kopf.TemporaryError, match="refused these credentials") as caught:
            await login()
        assert caught.value.delay == 0.75 and "secret-one" not in str(caught.value)

    asyncio.run(main())


def test_unusable_credentials_end_the_operator_at_first_and_are_awaited_later() -> None:
    async def main() -> None:
        client = client_with("one")
        login = login_function(client, Heartbeats())
        client.configuration.cert_file = "half.pem"
        with pytest.raises(kopf.PermanentError, match="one is missing"):
            await login()
        client.configuration.cert_file = None
        assert await accepted(login)
        client.configuration.cert_file = "half.pem"
        with pytest.raises(kopf.TemporaryError, match="one is missing"):
            await login()
        client.configuration.cert_file = None
        assert await accepted(login)

    asyncio.run(main())


async def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"in vain: {what}")


def test_kopf_itself_watches_is_heard_and_comes_back_after_a_401(tmp_path: Path) -> None:
    """The whole way: a real kopf operator on a server that streams bookmarks and takes its token away."""

    async def main() -> None:
        async with api_server() as server:
            server.token, server.interval = "one", 0.02
            client = client_with("one", server.url)
            hearts = Heartbeats()
            hearts.expect(RESOURCE)
            registry = kopf.OperatorRegistry()
            kopf.on.login(registry=registry, id="login")(login_function(client, hearts))

            async def seen(**_: object) -> None:
                return

            kopf.on.event(GROUP, "v1alpha1", PLURAL, registry=registry, id="seen")(seen)
            settings = kopf.OperatorSettings()
            settings.posting.enabled = False
            settings.scanning.disabled = True
            settings.watching.reconnect_backoff = 0.01
            stop = threading.Event()
            # On a loop of its own: when kopf ends, it takes every task on its loop for one of its own.
            operator = asyncio.create_task(
                asyncio.to_thread(
                    kopf.run, registry=registry, settings=settings, standalone=True, clusterwide=True, stop_flag=stop
                )
            )
            try:
                await until(lambda: hearts.expected(RESOURCE) and server.watches == 1, "the first watch")
                heard: set[float] = set()

                def hears() -> bool:
                    time = hearts.beats().watches[RESOURCE].heard
                    heard.update([time] if time is not None else [])
                    return len(heard) >= 4

                await until(hears, "bookmarks that are heard")

                server.token = "two"
                server.bookmarks.put_nowait(None)
                await until(lambda: server.answers[401] >= 1, "a refusal")
                await asyncio.sleep(0.3)
                assert server.answers[401] <= 4, "a storm of requests"
                client.configuration.api_key["BearerToken"] = "Bearer two"
                await until(lambda: server.watches == 2, "a watch with the new token")
                heard.clear()
                await until(hears, "bookmarks on the new watch")
            finally:
                stop.set()
                await asyncio.wait_for(operator, 10)

    asyncio.run(main())
