"""Native encryption, as far as this project uses it: keys given or from files, one wrapping key per encryption root."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping

from dsg.storage.errors import Busy, InvalidValue, KeyUnavailable, KeyWrong
from dsg.storage.keys import WrappingKey
from dsg.storage.zfs.model.dataset import Filesystem, stored
from dsg.storage.zfs.model.pool import ModelPool, refuse

ReadKey = Callable[[str], bytes | None]
"""Returns the content of a key file on the node; None when there is none."""

RAW_KEY = 32
HEX_KEY = 64
PASSPHRASE = range(8, 513)
DEFAULT_CIPHER = "aes-256-gcm"


def _bad(name: str, message: str) -> None:
    refuse(errno.EINVAL, InvalidValue, f"cannot create '{name}': {message}", name)


def _material(name: str, keyformat: str, location: str, read: ReadKey, key: WrappingKey | None) -> bytes:
    if location == "prompt" and key is not None:
        return key.reveal()
    if not location.startswith("file://"):
        text = f"'{name}': no key can be read from keylocation={location} without a terminal or a network"
        refuse(errno.EINVAL, KeyUnavailable, text, name)
    path = location.removeprefix("file://")
    content = read(path)
    if content is None:
        text = f"'{name}': Failed to open key material file '{path}': No such file or directory"
        refuse(errno.ENOENT, KeyUnavailable, text, name)
    if keyformat == "raw":
        good = len(content) == RAW_KEY
    elif keyformat == "hex":
        content = content.rstrip(b"\n")
        good = len(content) == HEX_KEY and re.fullmatch(rb"[0-9a-fA-F]+", content) is not None
    else:
        content = content.partition(b"\n")[0]
        good = len(content) in PASSPHRASE
    if not good:
        refuse(errno.EINVAL, KeyUnavailable, f"'{name}': the key file '{path}' holds no {keyformat} key", name)
    return content


class NewKey:
    """How a filesystem about to be created will be encrypted."""

    def __init__(self, cipher: str, root: Filesystem | None, keyformat: str, location: str, material: bytes) -> None:
        self.cipher = cipher
        self.root = root
        """The encryption root above; None when the new filesystem is one itself."""
        self.keyformat = keyformat
        self.location = location
        self.material = material


def plan(
    pool: ModelPool,
    name: str,
    values: Mapping[str, str],
    parent: Filesystem | None,
    read: ReadKey,
    key: WrappingKey | None = None,
) -> NewKey | None:
    """Return how a new filesystem is to be encrypted; None when it is not. Refuses contradictory properties."""
    above = parent.encryption_root if parent is not None else None
    wanted = values.get("encryption", "on" if above is not None else "off")
    keyformat = values.get("keyformat", "none")
    location = values.get("keylocation", "none")
    if wanted == "off":
        if {"keyformat", "keylocation", "pbkdf2iters"} & set(values):
            _bad(name, "Encryption must be turned on to set encryption properties.")
        return None
    cipher = DEFAULT_CIPHER if wanted == "on" else wanted
    if keyformat == "none":
        if above is None or parent is None:
            _bad(name, "Keyformat required for new encryption root.")
        if location != "none":
            _bad(name, "Keyformat required for new encryption root.")
        if above not in pool.loaded:
            text = f"cannot create '{name}': encryption root's key is not loaded or provided"
            refuse(errno.EACCES, KeyUnavailable, text, name)
        inherited = parent.once.get("encryption", DEFAULT_CIPHER) if parent is not None else DEFAULT_CIPHER
        chosen = cipher if values.get("encryption", "on") != "on" else inherited
        return NewKey(chosen, above, "", "", b"")
    return NewKey(cipher, None, keyformat, location, _material(name, keyformat, location, read, key))


def apply(pool: ModelPool, filesystem: Filesystem, key: NewKey) -> None:
    """Encrypt a filesystem that is just being created; its key is loaded."""
    filesystem.once["encryption"] = key.cipher
    filesystem.encryption_root = key.root or filesystem
    if key.root is None:
        filesystem.once["keyformat"] = key.keyformat
        filesystem.key = key.material
        pool.loaded.add(filesystem)
    else:
        filesystem.once["keyformat"] = key.root.once.get("keyformat", "none")


def _root(pool: ModelPool, name: str, verb: str) -> Filesystem:
    filesystem = pool.filesystem(name)
    if filesystem.encryption_root is None:
        refuse(errno.EINVAL, InvalidValue, f"Key {verb} error: '{name}' is not encrypted.", name)
    if filesystem.encryption_root is not filesystem:
        root = filesystem.encryption_root.name
        text = f"Key {verb} error: Keys must be {verb}ed for encryption root of '{name}' ({root})."
        refuse(errno.EINVAL, InvalidValue, text, name)
    return filesystem


def load(pool: ModelPool, name: str, read: ReadKey, key: WrappingKey | None = None) -> None:
    """Load an encryption root's key, the one given or from its keylocation; nothing happens when it is loaded."""
    root = _root(pool, name, "load")
    if root in pool.loaded:
        return
    location = "prompt" if key is not None else root.setting("keylocation") or "none"
    if _material(name, root.once["keyformat"], location, read, key) != root.key:
        refuse(errno.EACCES, KeyWrong, f"Key load error: Incorrect key provided for '{name}'.", name)
    pool.loaded.add(root)


def opens(pool: ModelPool, name: str, key: WrappingKey) -> bool:
    """Return whether a key is that of an encryption root."""
    return key.reveal() == _root(pool, name, "load").key


def change(pool: ModelPool, name: str, key: WrappingKey) -> None:
    """Replace an encryption root's key, which must be loaded, by a raw one that is given."""
    root = _root(pool, name, "change")
    pool.require_change(name)
    if root not in pool.loaded:
        refuse(errno.EACCES, KeyUnavailable, f"Key change error: Key must be loaded for '{name}'.", name)
    pool.journal.set(root, "key", key.reveal())
    pool.journal.put(root.once, "keyformat", "raw")
    pool.journal.put(root.local, "keylocation", stored(name, "prompt"))
    pool.event(name)


def unload(pool: ModelPool, name: str) -> None:
    """Forget an encryption root's key; refuses while a filesystem that needs it is mounted."""
    root = _root(pool, name, "unload")
    if root not in pool.loaded:
        refuse(errno.EACCES, KeyUnavailable, f"Key unload error: Key already unloaded for '{name}'.", name)
    below = [other for other in pool.datasets.values() if other.encryption_root is root]
    read = {snapshot.filesystem for snapshot, readers in pool.long_holds.items() if readers}
    if any(other.mounted or other in read for other in below):
        refuse(errno.EBUSY, Busy, f"Key unload error: '{name}' is busy.", name)
    pool.loaded.discard(root)
