"""What OpenZFS refuses: each command with the error that it means. Recorded on a real node, and read in the tests.

They run in order on the pool `dsgrec`, which `record.py` furnishes: filesystems a, b, b/c (with user properties), a
snapshot of a that `clone` is a clone of, snapshots of b of which @2 is held by `t`, an encrypted filesystem e.
"""

from __future__ import annotations

from dsg.storage import errors
from dsg.storage.zfs.commands import Command

POOL = "dsgrec"
KEY = "/var/tmp/dsgrec.key"
"""Where the key of dsgrec/e lies; @KEY in arguments."""

Refusal = tuple[str, str, type[errors.StorageError]]


def _refusals(error: type[errors.StorageError], *lines: str) -> list[Refusal]:
    return [(line.partition(" ")[0], line.partition(" ")[2], error) for line in lines]


REFUSALS: list[Refusal] = [
    *_refusals(
        errors.NotFound,
        "create dsgrec/none/x",
        "set a:b=1 dsgrec/none",
        "inherit a:b dsgrec/none",
        "destroy dsgrec/none",
        "destroy dsgrec/a@none",
        "destroy dsgrec/none@1",
        "snapshot dsgrec/none@1",
        "clone dsgrec/a@none dsgrec/n",
        "clone dsgrec/a@1 dsgrec/none/n",
        "promote dsgrec/none",
        "hold t dsgrec/b@none",
        "hold t dsgrec/none@1",
        "release other dsgrec/b@2",
        "release t dsgrec/b@none",
        "holds -H dsgrec/b@none",
        "load-key dsgrec/none",
        "unload-key dsgrec/none",
        "rename -u dsgrec/none dsgrec/n",
        "rename -u dsgrec/a dsgrec/none/n",
        "set a:b=1 dsgnone/a",
        "snapshot dsgnone/a@1",
        "get -Hp used dsgrec/b#none",
    ),
    *_refusals(
        errors.PoolNotFound,
        "create dsgnone/a",
        "clone dsgrec/a@1 dsgnone/a",
        "rename -u dsgrec/a dsgnone/a",
        "program -j dsgnone -",
    ),
    *_refusals(
        errors.AlreadyExists,
        "create dsgrec/a",
        "snapshot dsgrec/a@1",
        "snapshot dsgrec/b@new dsgrec/a@1",
        "clone dsgrec/a@1 dsgrec/b",
        "hold t dsgrec/b@2",
        "promote dsgrec/collision",
        "rename -u dsgrec/a dsgrec/b",
    ),
    *_refusals(
        errors.HasDependents, "destroy dsgrec/b", "destroy dsgrec/a", "destroy dsgrec/a@1", "destroy dsgrec/a@1,9"
    ),
    *_refusals(errors.Held, "destroy dsgrec/b@2", "destroy dsgrec/b@1,2,3"),
    *_refusals(errors.Busy, "unload-key dsgrec/e", "destroy dsgrec/m"),
    *_refusals(
        errors.KeyUnavailable,
        "create -o encryption=on -o keyformat=raw -o keylocation=file:///nowhere dsgrec/x",
        "create -o encryption=on -o keyformat=raw -o keylocation=file://@KEY.short dsgrec/x",
        "create -o encryption=on -o keyformat=hex -o keylocation=file://@KEY.short dsgrec/x",
        "create -o encryption=on -o keyformat=passphrase -o keylocation=file://@KEY.short dsgrec/x",
        "load-key -L file://@KEY.short dsgrec/locked",
        "load-key -L file:///nowhere dsgrec/locked",
        "unload-key dsgrec/locked",
        "create dsgrec/locked/x",
    ),
    *_refusals(errors.KeyWrong, "load-key -L file://@KEY.other dsgrec/locked"),
    *_refusals(
        errors.InvalidValue,
        "create -o compression=bogus dsgrec/x",
        "create -o bogus=1 dsgrec/x",
        "create -o recordsize=100k dsgrec/x",
        "create -o quota=-1 dsgrec/x",
        "create -o quota=0 dsgrec/x",
        "create dsgrec/a@b",
        "create dsgrec/a!b",
        "create dsgrec/a//b",
        "create dsgrec/.",
        "create dsgrec/..",
        "create dsgrec/" + "x" * 255,
        "create -o encryption=on dsgrec/x",
        "create -o keyformat=raw dsgrec/x",
        "set used=1 dsgrec/a",
        "set casesensitivity=mixed dsgrec/a",
        "set bogus=1 dsgrec/a",
        "set Foo:x=1 dsgrec/a",
        "set recordsize=100k dsgrec/a",
        "set quota=many dsgrec/a",
        "set canmount=bad dsgrec/a",
        "set mountpoint=relative dsgrec/a",
        "set compression=zstd-99 dsgrec/a",
        "set version=4 dsgrec/a",
        "set keylocation=file:///x dsgrec/a",
        "set a:" + "n" * 254 + "=1 dsgrec/a",
        "set quota=1G dsgrec/a@1",
        "set quota=1G dsgrec/vol",
        "get -Hp bogus dsgrec/a",
        "get -Hp Foo:x dsgrec/a",
        "inherit bogus dsgrec/a",
        "inherit quota dsgrec/a",
        "inherit canmount dsgrec/a",
        "inherit used dsgrec/a",
        "destroy dsgrec",
        "snapshot dsgrec/a@",
        "snapshot dsgrec/a@x!",
        "snapshot dsgrec/a@x dsgrec/a@y",
        "snapshot -o Bad:x=1 dsgrec/a@x",
        "snapshot -o quota=1 dsgrec/a@x",
        "clone dsgrec/a dsgrec/n",
        "clone -o bogus=1 dsgrec/a@1 dsgrec/n",
        "promote dsgrec/a",
        "promote dsgrec/a@1",
        "hold t dsgrec/b",
        "hold " + "t" * 300 + " dsgrec/b@1",
        "load-key dsgrec/a",
        "unload-key dsgrec/a",
        "rename -u dsgrec/a dsgrec/a/below",
        "program -j dsgrec/a -",
    ),
    *_refusals(
        errors.OutOfSpace,
        "create -o reservation=1000G dsgrec/x",
        "create -o quota=1M -o reservation=2M dsgrec/x",
        "set reservation=1000G dsgrec/a",
        "set refreservation=1000G dsgrec/a",
    ),
    *_refusals(errors.QuotaExceeded, "set quota=1k dsgrec/a", "set refquota=1k dsgrec/a"),
]

ON_READ_ONLY_POOL = [
    "create dsgrec/x",
    "set a:b=1 dsgrec/a",
    "set quota=1G dsgrec/a",
    "inherit a:b dsgrec/a",
    "snapshot dsgrec/a@x",
    "destroy dsgrec/clone",
    "clone dsgrec/a@1 dsgrec/n",
    "promote dsgrec/clone",
    "hold t dsgrec/a@1",
    "program -j dsgrec -",
]

ON_SUSPENDED_POOL = [
    "create dsgsus/x",
    "set a:b=1 dsgsus/a",
    "inherit a:b dsgsus/a",
    "snapshot dsgsus/a@x",
    "destroy dsgsus/a@1",
    "clone dsgsus/a@1 dsgsus/n",
    "promote dsgsus/a",
    "hold t dsgsus/a@1",
    "holds -H dsgsus/a@1",
    "rename -u dsgsus/a dsgsus/n",
    "get -Hp used dsgsus/a",
    "program -j dsgsus -",
]

WITHOUT_PERMISSION = ["create dsgrec/x", "set a:b=1 dsgrec/a", "snapshot dsgrec/a@x", "program -j dsgrec -"]
"""As the user nobody."""


def command(verb: str, arguments: str) -> Command:
    """Return a line of the tables above as the command it is, without the checks of the builders."""
    words = tuple(word.replace("@KEY", KEY) for word in arguments.split(" "))
    return Command("zfs", verb, words, f"{verb} {arguments[:80]}", words[-1], stdin=b"return 1")
