"""Checking and setting properties."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from dsg.storage.errors import InvalidValue, OutOfSpace, QuotaExceeded
from dsg.storage.zfs.interface import DatasetKind
from dsg.storage.zfs.model import names, space
from dsg.storage.zfs.model.dataset import Filesystem, Snapshot, stored
from dsg.storage.zfs.model.native import NATIVE, SPACE_LIMITS, On, Rule
from dsg.storage.zfs.model.pool import ModelPool, Need, refuse

ON = {
    DatasetKind.FILESYSTEM: On.FILESYSTEM,
    DatasetKind.VOLUME: On.VOLUME,
    DatasetKind.SNAPSHOT: On.SNAPSHOT,
    DatasetKind.BOOKMARK: On.BOOKMARK,
}


def _invalid(subject: str, message: str) -> None:
    refuse(errno.EINVAL, InvalidValue, message, subject)


def parse(subject: str, properties: Mapping[str, str], kind: DatasetKind, *, creating: bool = False) -> dict[str, str]:
    """Return properties as they are stored; refuses them all when one is not valid, as libzfs does beforehand."""
    verb = f"cannot create '{subject}'" if creating else f"cannot set property for '{subject}'"
    result = {}
    for name, value in properties.items():
        native = NATIVE.get(name)
        if native is None:
            fault = names.user_property_fault(name, value)
            if fault:
                _invalid(subject, f"{verb}: {fault}")
            result[name] = value
            continue
        if kind is DatasetKind.SNAPSHOT:
            _invalid(subject, f"{verb}: this property can not be modified for snapshots")
        if native.rule is Rule.READ_ONLY or (native.rule is Rule.ONCE and not creating):
            _invalid(subject, f"{verb}: '{name}' is readonly")
        if not native.on & ON[kind]:
            _invalid(subject, f"{verb}: '{name}' does not apply to datasets of this type")
        try:
            result[name] = native.parse(value)
        except ValueError as error:
            _invalid(subject, f"{verb}: '{name}' {error}")
    return result


def store(pool: ModelPool, thing: Filesystem | Snapshot, values: Mapping[str, str], *, apply: bool = True) -> None:
    """Set properties that the kernel takes without looking at the space in use."""
    subject = thing.full_name if isinstance(thing, Snapshot) else thing.name
    pool.require_change(subject)
    pool.require_space(Need.RESERVED, subject)
    if "keylocation" in values and isinstance(thing, Filesystem):
        _check_keylocation(thing, values["keylocation"])
    if apply:
        for name, value in values.items():
            pool.journal.put(thing.local, name, stored(subject, value))
        pool.event(subject)


def _check_keylocation(filesystem: Filesystem, value: str) -> None:
    if filesystem.encryption_root is not filesystem:
        _invalid(filesystem.name, f"cannot set property for '{filesystem.name}': keylocation may only be set on roots")
    if value == "none":
        text = f"cannot set property for '{filesystem.name}': keylocation must not be 'none' for encrypted datasets"
        _invalid(filesystem.name, text)


def store_limit(pool: ModelPool, filesystem: Filesystem, name: str, value: str) -> None:
    """Set a quota or a reservation, after the checks of dsl_dir.c and dsl_dataset.c against the space in use."""
    pool.require_change(filesystem.name)
    pool.require_space(Need.RESERVED, filesystem.name)
    pool.settle()
    new = int(value)
    fault = _LIMIT_CHECKS[name](pool, filesystem, new) if new else None
    if fault is not None:
        too_small = fault is QuotaExceeded
        text = (
            "size is less than current used or reserved space" if too_small else "size is greater than available space"
        )
        refuse(errno.ENOSPC, fault, f"cannot set property for '{filesystem.name}': {text} ({name})", filesystem.name)
    pool.journal.put(filesystem.local, name, stored(filesystem.name, value))
    space.touch(filesystem)
    pool.event(filesystem.name)


Fault = type[QuotaExceeded] | type[OutOfSpace] | None


def _check_quota(_: ModelPool, filesystem: Filesystem, new: int) -> Fault:
    least = max(space.used(filesystem), filesystem.own_number("reservation"))
    return QuotaExceeded if new < least else None


def _check_refquota(_: ModelPool, filesystem: Filesystem, new: int) -> Fault:
    least = max(space.own(filesystem).referenced, filesystem.own_number("refreservation"))
    return QuotaExceeded if new < least else None


def _check_reservation(pool: ModelPool, filesystem: Filesystem, new: int) -> Fault:
    taken = space.used(filesystem)
    growth = max(taken, new) - max(taken, filesystem.own_number("reservation"))
    if growth <= 0:
        return None
    parent = filesystem.parent
    room = pool.usable_size - taken if parent is None else space.available_below(parent, pool.usable_size)
    quota = filesystem.own_number("quota")
    return OutOfSpace if growth > room or (quota and new > quota) else None


def _check_refreservation(pool: ModelPool, filesystem: Filesystem, new: int) -> Fault:
    unique = space.own(filesystem).written
    growth = max(unique, new) - max(unique, filesystem.own_number("refreservation"))
    if growth <= 0:
        return None
    refquota = filesystem.own_number("refquota")
    room = space.available_below(filesystem, pool.usable_size)
    return OutOfSpace if growth > room or (refquota and new > refquota) else None


_LIMIT_CHECKS = {
    "quota": _check_quota,
    "refquota": _check_refquota,
    "reservation": _check_reservation,
    "refreservation": _check_refreservation,
}


def divide(values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the properties that land together in one transaction group, and those that take one each."""
    limits = {name: value for name, value in values.items() if name in SPACE_LIMITS}
    return {name: value for name, value in values.items() if name not in limits}, limits


def check_inherit(subject: str, name: str) -> None:
    """Refuse to clear a property that is not one, is read-only, or is never inherited (zfs-inherit(8))."""
    native = NATIVE.get(name)
    if native is None:
        if not names.is_user_property(name):
            _invalid(subject, f"invalid property '{name}'")
    elif native.rule is Rule.READ_ONLY:
        _invalid(subject, f"{name} property is read-only")
    elif native.rule is not Rule.INHERIT:
        hint = f"; use 'zfs set {name}=none' to clear" if name in SPACE_LIMITS else ""
        _invalid(subject, f"'{name}' property cannot be inherited{hint}")


def clear(pool: ModelPool, thing: Filesystem | Snapshot, name: str, *, apply: bool = True) -> None:
    """Clear a value set on a dataset itself."""
    subject = thing.full_name if isinstance(thing, Snapshot) else thing.name
    pool.require_change(subject)
    pool.require_space(Need.RESERVED, subject)
    check_inherit(subject, name)
    if apply:
        pool.journal.drop(thing.local, name)
        pool.event(subject)
