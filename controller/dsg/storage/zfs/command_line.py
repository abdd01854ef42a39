"""OpenZFS through zfs(8) and zpool(8): the implementation of `Zfs` that runs on storage nodes.

Pools are read as JSON from OpenZFS 2.3 on, and as text (`-Hp`) before; datasets always as text (see `read`). What is
run is in `commands`, what it prints in `parse_json` and `parse_text`, what goes wrong in `stderr`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsg.storage.errors import (
    Busy,
    CommandFailed,
    Held,
    InvalidValue,
    KeyWrong,
    NotMounted,
    StorageError,
    ZfsUnavailable,
)
from dsg.storage.keys import WrappingKey
from dsg.storage.mountinfo import PATH as MOUNTINFO
from dsg.storage.mountinfo import MountEntry, parse_mountinfo
from dsg.storage.process import CommandMissing, Completed, Runner
from dsg.storage.zfs import commands, event_stream, parse_json, parse_text, stderr
from dsg.storage.zfs.commands import Command
from dsg.storage.zfs.interface import (
    Dataset,
    DatasetKind,
    Diff,
    EventStream,
    Hold,
    Pool,
    ProgramValue,
    Version,
)
from dsg.storage.zfs.parse_json import Unparsable

OLDEST = (2, 1)
"""The oldest version this is written for."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long commands may take, in seconds."""

    read: float = 60.0
    """Commands that change nothing."""
    change: float = 120.0
    """Commands that wait for a transaction group; a busy pool may take several times its zfs_txg_timeout of 5 s."""


class CommandLineZfs:
    """OpenZFS on this node (`dsg.storage.zfs.interface.Zfs`). Any number of threads may call."""

    def __init__(
        self,
        runner: Runner | None = None,
        timeouts: Timeouts | None = None,
        *,
        zfs: str = "zfs",
        zpool: str = "zpool",
        mountinfo: Path = MOUNTINFO,
    ) -> None:
        """Share one runner among all that act on a node, so that what is stuck is known to all.

        `zfs` and `zpool` are the programs: names to look for in the runner's PATH, or absolute paths.
        """
        self._runner = runner if runner is not None else Runner()
        self._timeouts = timeouts if timeouts is not None else Timeouts()
        self._programs = {"zfs": zfs, "zpool": zpool}
        self._mountinfo = mountinfo
        self._version: Version | None = None

    # ---- running

    def _run(
        self,
        command: Command,
        timeout: float,
        accept: Callable[[str], bool] = lambda _: False,
        enough: Callable[[bytes], bool] | None = None,
    ) -> Completed:
        """Run a command to success, or to a failure whose message is an answer that the caller accepts.

        Raises CommandTimeout, NotResponding, ZfsUnavailable, and what `stderr` makes of the message.
        """
        argv = (self._programs[command.program], *command.argv[1:])
        try:
            completed = self._runner.run(
                argv,
                timeout=timeout,
                verb=command.verb,
                stdin=command.stdin,
                accept=lambda ended: accept(ended.message),
                enough=enough,
            )
        except CommandMissing as error:
            raise ZfsUnavailable(f"cannot {command.does}: {error}", subject=command.subject) from error
        except StorageError as error:
            raise type(error)(f"cannot {command.does}: {error}", subject=command.subject) from error
        if completed.exit_code and not accept(completed.message):
            raise self._failure(command, completed)
        return completed

    def _failure(self, command: Command, completed: Completed) -> StorageError:
        if "invalid option" in completed.message:
            # The tools have been replaced by older ones since their version was asked.
            self._version = None
        return stderr.error_of(command, completed.exit_code, completed.message)

    def _output(self, command: Command, timeout: float) -> str:
        return _text(self._run(command, timeout))

    def _read_output(self, command: Command) -> str:
        return self._output(command, self._timeouts.read)

    def _change(self, command: Command) -> None:
        self._output(command, self._timeouts.change)

    # ---- reading

    def version(self) -> Version:
        """Return the version of the tools; asked once, and again while OpenZFS is unavailable."""
        known = self._version
        if known is not None:
            return known
        command = commands.version()
        text = self._read_output(command)
        try:
            found = parse_text.version(text)
        except Unparsable as error:
            raise _not_understood(command, error) from error
        if (found.major, found.minor) < OLDEST:
            raise ZfsUnavailable(f"OpenZFS {found.major}.{found.minor} is too old; install 2.1 or later on this node")
        self._version = found
        return found

    def pools(self) -> Mapping[str, Pool]:
        """Return every imported pool by name: one run of `zpool list` and one of `zpool status`."""
        json = self.version().json_output
        listing, status = commands.list_pools(json=json), commands.pool_status(json=json)
        parse = parse_json.pools if json else parse_text.pools
        try:
            return parse(self._read_output(listing), self._read_output(status))
        except Unparsable as error:
            raise _not_understood(status, error) from error

    def read(
        self,
        roots: Sequence[str],
        properties: Sequence[str],
        *,
        kinds: Sequence[DatasetKind] = (DatasetKind.FILESYSTEM,),
        depth: int | None = None,
    ) -> Mapping[str, Dataset]:
        """Return the datasets at and below `roots`.

        One run of `zfs get`; the names of more than ten thousand roots may take a second one (`MAX_ARGUMENTS`). It is
        read as text in every version. `zfs get -j` drops characters beyond U+FFFF, breaks off at a byte that is no
        UTF-8, and prints nothing at all when one root is missing (seen in 2.3.9, and so in the source of 2.4.4). JSON
        is asked for only where a user property imitates lines of the text form.
        """
        wanted = commands.properties_to_read(properties)
        tails = {DatasetKind.SNAPSHOT: "@", DatasetKind.BOOKMARK: "#"}
        delimiters = {"", *(tails[kind] for kind in kinds if kind in tails)}
        names = [n for n in dict.fromkeys(roots) if commands.is_name(n) and commands.partition(n)[1] in delimiters]
        found: dict[str, Dataset] = {}
        if kinds:
            for part in commands.chunks(names):
                found |= self._read(part, wanted, kinds, depth)
        if commands.TYPE in properties:
            return found
        return {
            name: Dataset(name, d.kind, {k: v for k, v in d.properties.items() if k != commands.TYPE})
            for name, d in found.items()
        }

    def _read(
        self, roots: Sequence[str], properties: Sequence[str], kinds: Sequence[DatasetKind], depth: int | None
    ) -> dict[str, Dataset]:
        command = commands.get(roots, properties, kinds, depth, json=False)
        completed = self._run(command, self._timeouts.read, stderr.only_absent)
        try:
            return parse_text.datasets(_text(completed), properties)
        except Unparsable as error:
            if not self.version().json_output:
                raise _not_understood(command, error) from error
        absent = set(stderr.absent(completed.message))
        present = [name for name in roots if name not in absent]
        if not present:
            # Without names zfs-get(8) reads every dataset of the node.
            return {}
        command = commands.get(present, properties, kinds, depth, json=True)
        try:
            return parse_json.datasets(self._read_output(command))
        except Unparsable as error:
            raise _not_understood(command, error) from error

    def holds(self, snapshots: Sequence[str]) -> Sequence[Hold]:
        """Return the user holds of the given snapshots."""
        found: list[Hold] = []
        for part in commands.chunks(list(dict.fromkeys(snapshots))):
            command = commands.holds(part)
            try:
                found += parse_text.holds(self._read_output(command), part)
            except Unparsable as error:
                raise _not_understood(command, error) from error
        return found

    def diff(self, snapshot: str, dataset: str, *, limit: int = 50) -> Diff:
        """Return what differs; `zfs diff` is ended as soon as it has told enough."""
        if limit < 0:
            raise InvalidValue(f"cannot read {limit} differences of {dataset}", subject=dataset)
        command = commands.diff(snapshot, dataset)
        # The mount that zfs-diff(8) takes is the first one.
        at = [mount for mount in self._mounts() if (mount.filesystem, mount.source) == ("zfs", dataset)]
        counter = _Counter(limit)
        completed = self._run(command, self._timeouts.change, enough=counter.enough)
        if not at:
            what = f"cannot {command.does}: it was not mounted when this began; try again"
            raise NotMounted(what, subject=dataset)
        try:
            found = parse_text.differences(_text(completed), at[0].directory, whole=counter.count <= limit)
        except Unparsable as error:
            raise _not_understood(command, error) from error
        return Diff(found[:limit], len(found) > limit)

    # ---- changing

    def create(self, name: str, properties: Mapping[str, str], *, key: WrappingKey | None = None) -> None:
        """Create a filesystem with local properties."""
        self._change(commands.create(name, properties, key))

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        """Set local properties with one command; none is started when there are none."""
        if properties:
            self._change(commands.set_properties(name, properties))

    def inherit(self, name: str, properties: Sequence[str]) -> None:
        """Clear local values, one command for each."""
        for prop in properties:
            self._change(commands.inherit(name, prop))

    def rename(self, name: str, new: str) -> None:
        """Rename a filesystem with everything below it."""
        self._change(commands.rename(name, new))

    def destroy(self, name: str) -> None:
        """Destroy one filesystem or one snapshot.

        zfs-destroy(8) unmounts an idle filesystem by itself, mountpoint=legacy or not; here that is refused.
        """
        command = commands.destroy(name)
        where = [mount.directory for mount in self._mounts() if (mount.filesystem, mount.source) == ("zfs", name)]
        if where:
            raise Busy(f"cannot {command.does}: it is mounted at {where[0]}; unmount it first", subject=name)
        try:
            self._change(command)
        except Busy as error:
            raise self._held([name], error) from error

    def _held(self, names: Sequence[str], busy: Busy) -> Busy | Held:
        """Return why snapshots were busy: before 2.2, OpenZFS says the same of those that are held."""
        snapshots = self.read(names, ["userrefs"], kinds=[DatasetKind.SNAPSHOT], depth=0)
        held = [name for name, found in snapshots.items() if found.number("userrefs")]
        return Held(f"{busy}. {held[0]} is held: see `zfs holds {held[0]}`", subject=held[0]) if held else busy

    def _mounts(self) -> list[MountEntry]:
        try:
            return parse_mountinfo(self._mountinfo.read_bytes())
        except OSError as error:
            raise CommandFailed(f"cannot read {self._mountinfo}: {error.strerror}") from error

    def destroy_snapshots(self, dataset: str, names: Sequence[str]) -> None:
        """Destroy snapshots of one dataset with one command."""
        if not names:
            return
        command = commands.destroy_snapshots(dataset, names)
        try:
            self._run(command, self._timeouts.change, stderr.says_no_such_snapshots)
        except Busy as error:
            raise self._held([f"{dataset}@{name}" for name in names], error) from error

    def snapshot(self, names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        """Take snapshots of one pool atomically."""
        if names:
            self._change(commands.snapshot(names, properties or {}))

    def clone(self, snapshot: str, name: str, properties: Mapping[str, str]) -> None:
        """Create a filesystem from a snapshot."""
        self._change(commands.clone(snapshot, name, properties))

    def promote(self, name: str) -> None:
        """Make a clone the owner of its origin."""
        self._change(commands.promote(name))

    def hold(self, snapshots: Sequence[str], tag: str) -> None:
        """Put a user hold on snapshots."""
        if snapshots:
            self._change(commands.hold(snapshots, tag))

    def release(self, snapshots: Sequence[str], tag: str) -> None:
        """Take a user hold away."""
        if snapshots:
            self._change(commands.release(snapshots, tag))

    def program(self, pool: str, source: str, arguments: Sequence[str], *, sync: bool = True) -> ProgramValue:
        """Run a channel program, which is passed on stdin."""
        command = commands.program(pool, source, arguments, sync=sync)
        text = self._output(command, self._timeouts.change)
        try:
            return parse_json.program_result(text)
        except Unparsable as error:
            raise _not_understood(command, error) from error

    def load_key(self, name: str, key: WrappingKey | None = None) -> None:
        """Load the key of an encryption root: the one given, else from its keylocation."""
        self._run(commands.load_key(name, key), self._timeouts.change, stderr.says_key_loaded)

    def opens(self, name: str, key: WrappingKey) -> bool:
        """Return whether a key is that of an encryption root."""
        try:
            self._run(commands.verify_key(name, key), self._timeouts.change)
        except KeyWrong:
            return False
        return True

    def change_key(self, name: str, key: WrappingKey) -> None:
        """Replace the wrapping key of an encryption root."""
        self._change(commands.change_key(name, key))

    def unload_key(self, name: str) -> None:
        """Unload a key."""
        self._change(commands.unload_key(name))

    # ---- events

    def events(self) -> EventStream:
        """Begin to follow what happens; the last event there is by now is asked for first, to know what is new."""
        text = self._read_output(commands.events(follow=False))
        last = max((e.number for e in event_stream.parse_events(text.splitlines())), default=0)
        command = commands.events(follow=True)
        try:
            child = self._runner.start((self._programs[command.program], *command.argv[1:]))
        except CommandMissing as error:
            raise ZfsUnavailable(f"cannot {command.does}: {error}") from error
        return event_stream.FollowedEvents(child, last)


class _Counter:
    """Counts the differences that zfs-diff(8) prints, until there is one more than the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self.count = 0

    def enough(self, data: bytes) -> bool:
        """Take the next piece of output."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.count += sum(not line.endswith(parse_text.UNLINKED.encode()) for line in lines)
        return self.count > self._limit


def _text(completed: Completed) -> str:
    """Return stdout as text; bytes that are no UTF-8 become `\\xff`, as a value that can be shown and compared."""
    return completed.stdout.decode("utf-8", "backslashreplace")


def _not_understood(command: Command, error: Unparsable) -> CommandFailed:
    what = f"cannot {command.does}: `{command.program} {command.verb}` printed what is not understood here: {error}"
    return CommandFailed(what, subject=command.subject)
