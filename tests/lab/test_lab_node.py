"""Storage nodes: guests with real OpenZFS, their power, their disks and their daemons."""

import json
import stat
import threading
import time
import urllib.request
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from lab import wheel
from lab.errors import LabError
from lab.machine import Hardware
from lab.node import PYTHON, StorageNode
from lab.ssh import CommandFailed, ConnectionLost

pytestmark = pytest.mark.zfs


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageNode]:
    with StorageNode(tmp_path_factory.mktemp("lab") / "node", "node-a", forwards=(8080,)) as guest:
        guest.create_pool("tank")
        yield guest


def text(node: StorageNode, *argv: str) -> str:
    return node.run(*argv).stdout.strip()


def test_openzfs_is_new_enough_and_the_module_is_the_same(node: StorageNode) -> None:
    tools, module = (line.partition("zfs-")[2].removeprefix("kmod-") for line in text(node, "zfs", "version").split())
    assert tools == module
    assert tuple(int(part) for part in tools.split("-")[0].split(".")[:2]) >= (2, 3)


def test_the_clock_is_right_after_a_saved_state(node: StorageNode) -> None:
    before = time.time()
    there = float(text(node, "date", "+%s.%N"))
    assert before - 0.5 < there < time.time() + 0.5


def test_a_pool_is_made_once(node: StorageNode) -> None:
    identity = text(node, "zpool", "get", "-H", "-o", "value", "guid", "tank")
    node.create_pool("tank")
    assert text(node, "zpool", "get", "-H", "-o", "value", "guid", "tank") == identity


def test_failures_carry_both_outputs_and_the_exit_code(node: StorageNode) -> None:
    with pytest.raises(CommandFailed, match=r"(?s)failed with exit code 1.*dataset does not exist") as caught:
        node.run("zfs", "list", "tank/nothing")
    assert caught.value.exit_code == 1
    assert node.run("zfs", "list", "tank/nothing", check=False).returncode == 1


def test_words_arrive_as_they_were_sent(node: StorageNode) -> None:
    words = ["a b", "$HOME", "it's", '"', "\\", "*", "", "ü", "-n", "; reboot"]
    argv = [PYTHON, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *words]
    assert json.loads(text(node, *argv)) == words
    assert node.run("cat", input="in\n").stdout == "in\n"
    assert text(node, "sh", "-c", "pwd; echo $X") == "/root"
    assert node.run("sh", "-c", "pwd; echo $X", cwd="/var", env={"X": "a b"}).stdout == "/var\na b\n"


def test_a_command_over_its_time_is_given_up(node: StorageNode) -> None:
    begin = time.monotonic()
    with pytest.raises(LabError, match="sleep 30 did not end within 1 s"):
        node.run("sleep", "30", timeout=1)
    assert time.monotonic() - begin < 10


def test_files_and_folders_go_in_and_out(node: StorageNode, tmp_path: Path) -> None:
    (tmp_path / "from" / "sub").mkdir(parents=True)
    (tmp_path / "from" / "sub" / "f").write_bytes(b"\x00\xff")
    (tmp_path / "from" / "x").write_text("x")
    (tmp_path / "from" / "x").chmod(0o750)
    node.copy_in(tmp_path / "from", "/root/deep/copied")
    node.copy_in(tmp_path / "from" / "x", "/root/deep/copied/y")
    node.copy_out("/root/deep/copied", tmp_path / "back")
    found = {
        str(f.relative_to(tmp_path / "back")): f.read_bytes() for f in (tmp_path / "back").rglob("*") if f.is_file()
    }
    assert found == {"sub/f": b"\x00\xff", "x": b"x", "y": b"x"}
    assert stat.S_IMODE((tmp_path / "back" / "x").stat().st_mode) == 0o750
    with pytest.raises(LabError, match="exists already"):
        node.copy_out("/root/deep", tmp_path / "back")


def test_a_port_of_the_guest_is_reached_from_here(node: StorageNode) -> None:
    node.start_daemon("web", [PYTHON, "-m", "http.server", "8080", "--directory", "/etc"])
    deadline = time.monotonic() + 60
    while True:
        try:
            url = f"http://127.0.0.1:{node.forwarded(8080)}/hostname"
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.read() == b"node-a\n"
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    node.stop_daemon("web", "KILL")
    with pytest.raises(LabError, match="port 81 of node-a is not forwarded"):
        node.forwarded(81)


def test_daemons_run_once_end_by_signal_and_keep_their_log(node: StorageNode) -> None:
    assert node.daemon_pid("d") is None
    node.start_daemon(
        "d", ["sh", "-c", "trap 'echo bye; exit' TERM; echo up $X; while :; do sleep 0.1; done"], {"X": "1"}
    )
    pid = node.daemon_pid("d")
    assert pid is not None
    with pytest.raises(CommandFailed, match="runs already"):
        node.start_daemon("d", ["true"])
    assert node.daemon_pid("d") == pid
    deadline = time.monotonic() + 10
    while "up 1" not in text(node, "cat", "/var/log/d.log"):
        assert time.monotonic() < deadline
    node.stop_daemon("d")
    node.stop_daemon("d")
    assert node.daemon_pid("d") is None
    assert text(node, "cat", "/var/log/d.log") == "up 1\nbye"


def test_a_daemon_that_will_not_end_is_reported_and_can_be_killed(node: StorageNode) -> None:
    node.start_daemon("stubborn", ["sh", "-c", "trap '' TERM; echo never; sleep 600 & wait; while :; do sleep 1; done"])
    with pytest.raises(LabError, match=r"(?s)does not end 1 s after SIGTERM.*never"):
        node.stop_daemon("stubborn", timeout=1)
    node.stop_daemon("stubborn", "KILL")
    assert node.daemon_pid("stubborn") is None


def test_the_operators_kubeconfig_is_private_and_its_state_known(node: StorageNode, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text("token: secret\n")
    node.start_operator("node-a", config, ["--flag"], program=("sh", "-c", 'echo "$0 $@ $KUBECONFIG"; sleep 600'))
    assert node.operator_running()
    assert text(node, "stat", "-c", "%a %U", "/etc/dsg/kubeconfig") == "600 root"
    assert text(node, "cat", "/etc/dsg/kubeconfig") == "token: secret"
    deadline = time.monotonic() + 10
    while node.operator_log() != "--node node-a --flag /etc/dsg/kubeconfig\n":
        assert time.monotonic() < deadline
    node.stop_operator("KILL")
    assert not node.operator_running()


def test_the_wheel_of_this_tree_is_installed_and_replaced(node: StorageNode) -> None:
    node.install()
    assert node.installed() == wheel.digest(wheel.wheel())
    node.run("touch", "/opt/dsg/lib/python3.13/site-packages/dsg/left_over.py")
    node.install()
    version = text(node, PYTHON, "-c", "import importlib.metadata, dsg; print(importlib.metadata.version('dsg'))")
    assert version
    assert node.run("ls", "/opt/dsg/lib/python3.13/site-packages/dsg/left_over.py", check=False).returncode != 0
    assert text(node, "head", "-n", "1", "/opt/dsg/bin/dsg-operator") == "#!/opt/dsg/bin/python"


def test_tests_run_inside_the_guest_with_the_wheel(node: StorageNode, tmp_path: Path) -> None:
    files = {
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--strict-markers'\n",
        "tests/conftest.py": "import pytest\n\n\n@pytest.fixture\ndef answer(): return 42\n",
        "tests/deep/test_there.py": (
            "import os, dsg, hypothesis\n"
            "def test_it_is_there(answer): assert os.path.exists('/dev/zfs') and os.environ['WORD'] == 'a b'\n"
            "def test_it_fails(answer): assert answer == 41\n"
        ),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)

    def outcome(*args: str) -> tuple[int, str]:
        said = StringIO()
        code = node.run_pytest(["tests/deep"], ["-q", *args], out=said, env={"WORD": "a b"}, tree=tmp_path)
        return code, said.getvalue()

    code, said = outcome()
    assert code == 1
    assert "assert 42 == 41" in said and "1 failed, 1 passed" in said
    assert outcome("-k", "is_there")[0] == 0


def test_two_nodes_run_at_once_and_share_nothing(node: StorageNode, tmp_path: Path) -> None:
    with StorageNode(tmp_path / "other", "node-b") as other:
        facts = [
            {
                what: text(guest, *argv)
                for what, argv in (
                    ("name", ("hostname",)),
                    ("hostid", ("hostid",)),
                    ("machine", ("cat", "/etc/machine-id")),
                    ("uuid", ("cat", "/proc/sys/kernel/random/uuid")),
                    ("pools", ("zpool", "list", "-H", "-o", "name")),
                )
            }
            for guest in (node, other)
        ]
    assert all(facts[0][what] != facts[1][what] for what in facts[0])
    assert facts[1]["pools"] == ""


def test_a_pool_on_a_broken_disk_is_suspended_and_goes_on_when_mended(node: StorageNode) -> None:
    node.create_pool("frail", disks=(1,))
    node.run("sh", "-c", "echo kept > /frail/f; sync")
    node.break_disk(1)
    node.start_daemon("writer", ["sh", "-c", "echo more > /frail/g; sync"])
    deadline = time.monotonic() + 60
    while text(node, "zpool", "list", "-H", "-o", "health", "frail") != "SUSPENDED":
        assert time.monotonic() < deadline
    node.mend_disk(1)
    node.run("zpool", "clear", "frail")
    assert text(node, "cat", "/frail/f", "/frail/g") == "kept\nmore"
    node.run("zpool", "destroy", "frail")


def test_a_power_cut_loses_only_what_was_not_flushed(node: StorageNode) -> None:
    node.run("sh", "-c", "zfs create tank/cut; echo synced > /tank/cut/f; sync; echo unsynced > /tank/cut/g")
    node.kill()
    assert not node.running
    node.boot()
    assert text(node, "sh", "-c", "zpool list -H -o health tank; cat /tank/cut/f; hostname") == "ONLINE\nsynced\nnode-a"
    assert abs(float(text(node, "date", "+%s.%N")) - time.time()) < 1
    node.run("zfs", "destroy", "tank/cut")


def test_a_new_computer_takes_over_the_pool(node: StorageNode) -> None:
    node.run("sh", "-c", "zfs create tank/moved; echo synced > /tank/moved/f; sync; touch /root/on-the-system-disk")
    hostid = text(node, "hostid")
    node.replace()
    assert text(node, "cat", "/tank/moved/f") == "synced"
    assert text(node, "hostid") == hostid
    assert node.run("ls", "/root/on-the-system-disk", check=False).returncode != 0
    node.run("zfs", "destroy", "tank/moved")


def test_a_command_during_a_power_cut_ends_with_a_lost_connection(node: StorageNode) -> None:
    clock = threading.Timer(0.5, node.kill)
    clock.start()
    with pytest.raises(ConnectionLost, match="lost during sleep 600"):
        node.run("sleep", "600", timeout=60)
    clock.join()
    node.replace()


def test_the_reset_button_and_an_orderly_stop_keep_the_pool(node: StorageNode) -> None:
    node.run("sh", "-c", "echo first > /tank/first; sync")
    node.reset()
    node.run("sh", "-c", "echo second > /tank/second")
    node.stop()
    assert not node.running
    node.boot()
    assert text(node, "cat", "/tank/first", "/tank/second") == "first\nsecond"


def test_keys_and_settings_are_private(node: StorageNode) -> None:
    key = node._image().ssh_key
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((node.directory / "node.json").stat().st_mode) == 0o600


def test_a_cold_first_start_and_destruction(tmp_path: Path) -> None:
    directory = tmp_path / "cold"
    guest = StorageNode(
        directory, "cold", warm=False, hardware=Hardware(memory_mib=1024, pool_disks=1, pool_disk_gib=1)
    )
    guest.boot()
    assert "node-init: ready" in guest.console
    assert int(text(guest, "blockdev", "--getsize64", guest.device(0))) == 1 << 30
    with pytest.raises(LabError, match="there is no disk 1"):
        guest.device(1)
    guest.destroy()
    assert not directory.exists()
