"""The story: a Repository declared in YAML becomes a reconciled dataset; two researchers work on it; it is kept so.

Every command is run for real and its output shown; every chapter ends with what was checked on the real state.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo import content, specs
from demo.narrator import Narrator, Unexpected
from demo.specs import POOL, REPOSITORY, RIVAL
from demo.state import NAMESPACE, PATIENCE, State, expect, until
from demo.world import NODE, OPERATOR_NAMESPACE, Done, World
from dsg.api.names import CONFIRM_DELETE

_ALICE, _BOB = "alice", "bob"
_FILE = "input/la-riots.csv"
_RECORD, _SECOND = "interview 17", "interview 18"
_ATTEMPTS = 10
"""How often an operator is tried to be killed in a commit, which on a fast disk takes a few milliseconds."""
_DECISIONS = ".dsg/conflicts.txt"
_IN_NAMESPACE = ("-n", NAMESPACE)

_WRITES = {"create", "update", "patch", "delete", "deletecollection"}
_MEASURED = {"available", "used", "usedPercent", "free", "capacityPercent", "fragmentationPercent", "resourceVersion"}
"""Fields that change by themselves, with what else happens on a disk."""


def _unmeasured(value: Any) -> Any:
    """Return a value without the fields that are measured and those that say when and by whom it was written."""
    if isinstance(value, list):
        return [_unmeasured(item) for item in value]
    if isinstance(value, dict):
        return {key: _unmeasured(item) for key, item in value.items() if key not in {*_MEASURED, "managedFields"}}
    return value


class Story:
    """Tells it in one world."""

    def __init__(self, world: World, narrator: Narrator) -> None:
        self._world = world
        self._tell = narrator
        self._state: State
        self._head = 0
        """Number of the newest version, after the one that was committed in spite of a kill."""
        self._record = ""
        """What the file holds when the researchers have done with it."""

    def tell(self) -> None:
        """Tell all of it. Raises Unexpected when something does not show what it should."""
        self._stage()
        self._pool()
        self._refusals()
        self._repository()
        self._first_version()
        self._together()
        self._killed()
        self._conflict()
        self._old_version()
        self._drift()
        self._report_and_suspend()
        self._restart()
        self._rival()
        self._retain_and_adopt()
        self._delete()

    # --- how things are shown

    def _run(self, *argv: str, fails: bool = False) -> Done:
        self._tell.command(argv)
        done = self._world.run(argv)
        self._tell.output(done.text, failed=fails)
        expect(f"`{' '.join(argv)}` {'fails' if fails else 'succeeds'}", (done.code != 0) is fails, done.text.strip())
        return done

    def _kubectl(self, *args: str, fails: bool = False) -> str:
        return self._run("kubectl", *args, fails=fails).text

    def _piped(self, line: str) -> str:
        self._tell.command((line,))
        done = self._world.run(("sh", "-c", line))
        self._tell.output(done.text)
        expect(f"`{line}` succeeds", done.code == 0, done.text.strip())
        return done.text

    def _node(self, *argv: str, fails: bool = False) -> str:
        self._tell.command(argv, prompt=self._world.prompt)
        done = self._world.on_node(argv)
        self._tell.output(done.text, failed=fails)
        expect(f"`{' '.join(argv)}` {'fails' if fails else 'succeeds'}", (done.code != 0) is fails, done.text.strip())
        return done.text

    def _write(self, file: str, obj: dict[str, Any], *, show: bool = True) -> None:
        (self._world.directory / file).write_text(specs.text(obj))
        if show:
            self._run("cat", file)

    def _patch(self, name: str, spec: dict[str, Any]) -> None:
        body = json.dumps({"spec": spec})
        self._kubectl("patch", "repository", name, *_IN_NAMESPACE, "--type=merge", "-p", body)
        if not (self._state.repository(name) or {}).get("metadata", {}).get("deletionTimestamp"):
            until("the operator has seen the change", lambda: self._state.condition(name, "Ready"))

    def _events(self, name: str, *more: str) -> str:
        return self._kubectl("events", *_IN_NAMESPACE, "--for", f"repository/{name}", *more)

    def _look(self, commands: Sequence[tuple[str, ...]]) -> str:
        return "".join(self._node(*argv) for argv in commands)

    # --- chapters

    def _stage(self) -> None:
        with self._tell.chapter("The stage"):
            self._tell.say(self._world.introduction)
            self._world.open()
            self._state = State(self._world)
            self._tell.say(
                "Kubernetes knows three new kinds of objects from this project's CRDs. On each storage node runs one "
                f"operator, and beside it a data plane; here it is {NODE}. A person declares in YAML what should be, "
                "and the operator makes it so."
            )
            self._kubectl("get", "customresourcedefinitions")
            self._write("namespace.yaml", specs.NAMESPACE_SPEC, show=False)
            self._kubectl("apply", "-f", str(OPERATOR_NAMESPACE), "-f", "namespace.yaml")
            self._world.start_data_plane()
            self._world.start_operator()
            until("the operator shows itself by its Lease", self._lease)
            self._kubectl("get", "lease", f"dsg-operator-{NODE}", "-n", "dsg-system")
            self._tell.checked(f"the operator of {NODE} runs and renews its Lease")

    def _lease(self) -> dict[str, Any] | None:
        self._world.operator_pid()  # raises when it has ended, so that nobody waits for it
        return self._state.lease(NODE)

    def _pool(self) -> None:
        with self._tell.chapter("The platform team declares a StoragePool"):
            self._tell.say(
                "A StoragePool says which storage on which node may hold repositories, and for whom. Nothing is "
                "detected or guessed: every parameter is stated."
            )
            self._write("storagepool.yaml", specs.pool(self._world))
            self._kubectl("apply", "-f", "storagepool.yaml")
            self._kubectl("wait", f"storagepool/{POOL}", "--for=condition=Ready", "--timeout=60s")
            self._kubectl("get", "storagepools")
            status = (self._state.pool(POOL) or {}).get("status", {})
            expect("the pool's health is known", status.get("health") == "ONLINE", status)
            self._tell.checked(f"StoragePool {POOL} is Ready, and its health and free space are measured")

    def _refusals(self) -> None:
        with self._tell.chapter("Mistakes are refused before anything happens"):
            self._tell.say("A misspelt field is not silently ignored:")
            wrong = specs.repository(self._world)
            wrong["spec"]["datadirs"] = wrong["spec"].pop("dataDirs")
            self._write("misspelt.yaml", wrong, show=False)
            self._run("grep", "-n", "datadirs", "misspelt.yaml")
            said = self._kubectl("apply", "-f", "misspelt.yaml", fails=True)
            expect("the message names the field", 'unknown field "spec.datadirs"' in said, said)
            self._tell.say("A kind of storage that could not keep its promises is recognised, and refused with advice:")
            self._write("ipfs.yaml", specs.repository(self._world, type="ipfs"), show=False)
            said = self._kubectl("apply", "-f", "ipfs.yaml", fails=True)
            expect("the message says what to do instead", "Keep the repository on zfs or xfs" in said, said)
            expect("no Repository was created", self._state.repository(REPOSITORY) is None)
            self._tell.checked("both were refused with a reason, and no Repository exists")

    def _repository(self) -> None:
        with self._tell.chapter("A research team declares a Repository"):
            self._tell.say(
                "The team asks for a repository: where it lies, where it can be read, who owns it. The operator makes "
                "it and reports, in the object's status and by Events."
            )
            self._write("repository.yaml", specs.repository(self._world))
            self._kubectl("apply", "-f", "repository.yaml")
            self._kubectl("wait", f"repository/{REPOSITORY}", *_IN_NAMESPACE, "--for=condition=Ready", "--timeout=60s")
            self._kubectl("get", "repositories", *_IN_NAMESPACE)
            self._state.wait_event(REPOSITORY, "Created")
            said = self._piped(f"kubectl describe repository {REPOSITORY} -n {NAMESPACE} | sed -n '/^Status/,$p'")
            expect("describe shows the Event", "Created" in said)
            again = self._kubectl("apply", "-f", "repository.yaml")
            expect("a second apply changes nothing", "unchanged" in again, again)
            self._tell.checked(
                f"Repository {REPOSITORY} is Ready; its Events say what was done; a second apply is idle"
            )

    def _first_version(self) -> None:
        with self._tell.chapter("Alice makes the first version"):
            self._tell.say(
                "Alice has public data sets in an ordinary directory. `kubectl dsg init` ties it to the Repository, "
                "sends the files to the node's data plane, and has them committed. She is known by her kubeconfig; "
                "each transaction has a key of its own, and none is stored anywhere."
            )
            for argv in self._world.admit_researchers(NAMESPACE):
                self._run(*argv)
            content.fetch(self._desk(_ALICE) / "input")
            self._as(_ALICE, "ls", "-l", "input")
            self._dsg(_ALICE, "init", REPOSITORY, *_IN_NAMESPACE, "-m", "Data as published")
            self._state.wait_head(REPOSITORY, "s1")
            self._kubectl("get", "synctransactions,repositories", *_IN_NAMESPACE)
            shown = self._look(self._world.look(REPOSITORY))
            owner = self._world.owner()
            line = f"drwxrws--- {owner['uid']}:{owner['gid']} {self._world.mountpoint(REPOSITORY)}"
            expect("owner and mode are the declared ones", line in shown, shown)
            mine = (self._desk(_ALICE) / _FILE).read_text()
            expect("readers on the node see what she has", self._on_node(_FILE) == mine)
            self._tell.checked("readers on the node see s1, with the owner and mode that were declared")

    def _together(self) -> None:
        with self._tell.chapter("Bob clones, and both work at the same time"):
            self._desk(_BOB).parent.mkdir(exist_ok=True)
            self._dsg(_BOB, "clone", REPOSITORY, str(self._desk(_BOB)), *_IN_NAMESPACE, where=self._world.directory)
            self._edit(_ALICE, _FILE, _RECORD)
            self._edit(_BOB, "output/count.txt", "17 interviews")
            self._dsg(_ALICE, "status")
            self._dsg(_ALICE, "sync", "-m", "One more record")
            self._tell.say("Bob began from s1 as well. What he changed is elsewhere, so it goes on top of hers:")
            self._dsg(_BOB, "sync", "-m", "Counted")
            self._state.wait_head(REPOSITORY, "s3")
            self._dsg(_ALICE, "sync")
            expect("Alice has Bob's file", (self._desk(_ALICE) / "output/count.txt").exists())
            expect("Bob has Alice's record", self._last_line(_BOB, _FILE) == _RECORD)
            self._dsg(_ALICE, "log")
            self._tell.checked("two versions from two people; both working copies hold both changes")

    def _killed(self) -> None:
        with self._tell.chapter("Killed in the middle of a commit"):
            self._tell.say(
                "Alice syncs again, and the operator is killed while it commits. Whatever it was about, readers see "
                "the old version or the new one; the operator that comes back finds out, and ends it. Alice only waits."
            )
            command = ("kubectl", "dsg", "sync", "-m", "A second record")
            for number in range(4, 4 + _ATTEMPTS):
                old, new = self._on_node(_FILE), self._edit(_ALICE, _FILE, _SECOND)
                self._tell.command((f"{shlex.join(command)} &",), prompt=f"{_ALICE}$")
                sync = self._world.start_as(_ALICE, command, self._desk(_ALICE))
                if self._caught(sync):
                    self._head = number
                    break
                self._tell.output(sync.communicate(timeout=PATIENCE)[0])
                self._tell.say("That was too fast to be killed in. Once more:")
            else:
                raise Unexpected("no commit was slow enough to be killed in")
            seen = self._on_node(_FILE)
            expect("readers see one of the two versions", seen in {old, new}, seen[-200:])
            self._tell.say("The operator is dead, and a new one is started:")
            self._tell.command((f"{shlex.join(self._world.operator_command())} &",), prompt=self._world.prompt)
            self._world.start_operator()
            said, _ = sync.communicate(timeout=PATIENCE)
            self._tell.output(said)
            expect("the sync succeeds", sync.returncode == 0, said)
            self._state.wait_head(REPOSITORY, f"s{self._head}")
            self._kubectl("get", "synctransactions", *_IN_NAMESPACE)
            expect("readers see the new version", self._on_node(_FILE) == new)
            self._tell.checked(f"s{self._head} is committed, once and whole")

    def _caught(self, sync: subprocess.Popen[str]) -> bool:
        """Kill the operator while it commits; return whether that came in time."""
        pid = str(self._world.operator_pid())
        while sync.poll() is None:
            if self._state.any_phase("Verifying", "Committing"):
                self._node("kill", "-9", pid)
                return True
        return False

    def _conflict(self) -> None:
        with self._tell.chapter("Two people change the same file"):
            self._tell.say(
                "Both add a line to the same file. Bob is first. Alice's sync stops before anything moves, names the "
                "path with both authors and times, and writes a file in which she decides."
            )
            self._edit(_ALICE, _FILE, "added by Alice")
            self._dsg(_BOB, "sync")
            self._edit(_BOB, _FILE, "added by Bob")
            self._dsg(_BOB, "sync", "-m", "Bob's line")
            before = (self._desk(_ALICE) / _FILE).read_text()
            self._dsg(_ALICE, "sync", "-m", "Alice's line", code=3)
            expect("nothing of hers has changed", (self._desk(_ALICE) / _FILE).read_text() == before)
            self._as(_ALICE, "cat", _DECISIONS)
            self._tell.say("She keeps both: Bob's under the name, hers beside it.")
            self._as(_ALICE, "sed", "-i", "s/both): ?/both): both/", _DECISIONS)
            self._dsg(_ALICE, "sync", "--continue", "-m", "Alice's line, beside Bob's")
            self._state.wait_head(REPOSITORY, f"s{self._head + 2}")
            self._as(_ALICE, "ls", "input")
            kept = {path.read_text() for path in (self._desk(_ALICE) / "input").iterdir()}
            expect("hers is there", before in kept)
            expect("Bob's is there", self._last_line(_ALICE, _FILE) == "added by Bob")
            self._dsg(_BOB, "sync")
            there = {path.read_text() for path in (self._desk(_BOB) / "input").iterdir()}
            expect("Bob has both", before in there)
            self._tell.checked("neither side was lost, and both people have both")

    def _old_version(self) -> None:
        with self._tell.chapter("What was once committed can be had again"):
            self._dsg(_BOB, "log")
            self._dsg(_BOB, "blame", _FILE)
            self._dsg(_BOB, "fetch", _FILE, "--version", "s1", "-O", "as-published.csv")
            found = (self._desk(_BOB) / "as-published.csv").read_text()
            expect("it is what was published", found == content.published(Path(_FILE).name).read_text())
            self._record = self._on_node(_FILE)
            self._tell.checked("s1's file is, byte for byte, what was published")

    # --- the researchers

    def _desk(self, user: str) -> Path:
        return self._world.desk(user)

    def _as(self, user: str, *argv: str, code: int = 0, where: Path | None = None) -> str:
        """Run a command of a researcher in their working copy."""
        self._tell.command(argv, prompt=f"{user}$")
        process = self._world.start_as(user, argv, where or self._desk(user))
        said, _ = process.communicate(timeout=PATIENCE)
        self._tell.output(said, failed=code != 0)
        expect(f"`{shlex.join(argv)}` exits with {code}", process.returncode == code, said.strip())
        return said

    def _dsg(self, user: str, *args: str, code: int = 0, where: Path | None = None) -> str:
        return self._as(user, "kubectl", "dsg", *args, code=code, where=where)

    def _edit(self, user: str, path: str, line: str) -> str:
        """Add a line to a file, which is made where there is none; return what it holds then."""
        self._tell.command((f"echo {shlex.quote(line)} >> {path}",), prompt=f"{user}$")
        file = self._desk(user) / path
        file.parent.mkdir(exist_ok=True)
        with file.open("a") as out:
            out.write(f"{line}\n")
        return file.read_text()

    def _last_line(self, user: str, path: str) -> str:
        return (self._desk(user) / path).read_text().splitlines()[-1]

    def _on_node(self, path: str) -> str:
        """Return a file as readers on the node see it."""
        return self._world.on_node(("cat", f"{self._world.mountpoint(REPOSITORY)}/{path}")).text

    def _drift(self) -> None:
        tampering = self._world.tampering(REPOSITORY)
        with self._tell.chapter("What is changed by hand is set back"):
            self._tell.say(f"{tampering.sentence} The spec says otherwise, so the operator sets it back and says so.")
            before = len(self._state.events(REPOSITORY, "DriftCorrected"))
            self._node(*tampering.change)
            event = self._state.wait_event(REPOSITORY, "DriftCorrected", before)
            self._events(REPOSITORY, "--types=Warning")
            found = self._node(*tampering.look).strip()
            expect("the declared value is back", found == tampering.declared, found)
            expect("the Event says from what to what", "→" in event, event)
            self._tell.checked(f"it is {tampering.declared} again, and the Event says from what to what")

    def _report_and_suspend(self) -> None:
        tampering = self._world.tampering(REPOSITORY)
        with self._tell.chapter("Two ways to hold the operator back"):
            self._tell.say("With `driftPolicy: Report`, a change by hand is only reported:")
            self._patch(REPOSITORY, {"driftPolicy": "Report"})
            self._node(*tampering.change)
            drifted = self._state.wait_reason(REPOSITORY, "DriftReported", "Drifted")
            self._show_condition("Drifted")
            found = self._node(*tampering.look).strip()
            expect("the hand-made value stands", found == tampering.changed, found)
            expect("the condition is True", drifted["status"] == "True", drifted)
            self._patch(REPOSITORY, {"driftPolicy": "Correct"})
            self._state.wait_reason(REPOSITORY, "InSync", "Drifted")

            self._tell.say("With `suspend: true`, the operator changes nothing at all, and lists what it would do:")
            self._patch(REPOSITORY, {"suspend": True})
            self._state.wait_reason(REPOSITORY, "SuspendedBySpec", "Suspended")
            self._node(*tampering.change)
            self._state.wait_reason(REPOSITORY, "DriftReported", "Drifted")
            self._show("{.status.plan[*]}")
            plan = (self._state.repository(REPOSITORY) or {})["status"].get("plan", [])
            expect("the plan names the step", bool(plan), plan)
            found = self._node(*tampering.look).strip()
            expect("the hand-made value stands", found == tampering.changed, found)
            self._patch(REPOSITORY, {"suspend": False})
            self._state.wait_reason(REPOSITORY, "InSync", "Drifted")
            found = self._node(*tampering.look).strip()
            expect("the declared value is back", found == tampering.declared, found)
            self._tell.checked("reported and left alone, twice; corrected as soon as that was allowed again")

    def _show(self, path: str, what: str = f"repository/{REPOSITORY}") -> None:
        self._kubectl("get", what, *_IN_NAMESPACE, "-o", f"jsonpath={path}")

    def _show_condition(self, type_: str, what: str = f"repository/{REPOSITORY}") -> None:
        self._show(f'{{.status.conditions[?(@.type=="{type_}")].message}}', what)

    def _restart(self) -> None:
        with self._tell.chapter("The operator is killed, and comes back"):
            self._tell.say(
                "The operator keeps no state of its own: after `kill -9` it looks at what is declared and at what is "
                "there. Both agree, so it writes nothing, unless the measured free space has changed meanwhile."
            )
            before = self._declared_and_found()
            self._node("kill", "-9", str(self._world.operator_pid()))
            mark = self._world.api.audit_mark()
            self._tell.command((f"{shlex.join(self._world.operator_command())} &",), prompt=self._world.prompt)
            self._world.start_operator()
            # Listed by the watch, at the start, and after five looks at everything.
            until("the operator has looked again", lambda: self._lists(mark) > 2)  # noqa: PLR2004
            self._tell.say("What it has asked of the API since, by the API server's own log:")
            counted = self._state.operator_requests(mark)
            self._tell.output("\n".join(f"{count:>4}  {what}" for what, count in sorted(counted.items())))
            writes = {what for what in counted if what.split()[0] in _WRITES} - {"patch leases", "create leases"}
            after = self._declared_and_found()
            expect("nothing has changed but measured space", _unmeasured(after) == _unmeasured(before), after)
            if after == before:
                expect("the operator wrote nothing but its Lease", not writes, writes)
                self._tell.checked("it has read everything again, and written nothing but its own Lease")
            else:
                measured = {"update repositories/status", "update storagepools/status"}
                expect("the operator wrote nothing but its Lease and the measured space", writes <= measured, writes)
                self._tell.checked("it has written its own Lease, and the free space of this disk, which has changed")

    def _declared_and_found(self) -> list[dict[str, Any]]:
        return [obj for obj in (self._state.repository(REPOSITORY), self._state.pool(POOL)) if obj is not None]

    def _lists(self, mark: int) -> int:
        return self._state.operator_requests(mark)["list repositories"]

    def _rival(self) -> None:
        with self._tell.chapter("Two Repositories can't have one place"):
            self._tell.say("Somebody copies the file, changes the name, and forgets the rest:")
            rival = specs.repository(self._world)
            rival["metadata"]["name"] = RIVAL
            self._write("rival.yaml", rival, show=False)
            self._run("diff", "repository.yaml", "rival.yaml", fails=True)
            before = self._state.repository(REPOSITORY)
            self._kubectl("apply", "-f", "rival.yaml")
            self._state.wait_reason(RIVAL, "PathConflict")
            self._kubectl("get", "repositories", *_IN_NAMESPACE)
            self._events(RIVAL)
            expect("the older Repository has not changed", self._state.repository(REPOSITORY) == before)
            self._kubectl("delete", "-f", "rival.yaml")
            expect("the data is there", self._record_is_there())
            self._tell.checked("the younger was refused and named the older; deleting it touched nothing")

    def _last_word(self, reason: str) -> None:
        columns = "custom-columns=REASON:.reason,MESSAGE:.message"
        self._kubectl("get", "events", *_IN_NAMESPACE, "--field-selector", f"reason={reason}", "-o", columns)

    def _record_is_there(self) -> bool:
        return self._on_node(_FILE) == self._record

    def _retain_and_adopt(self) -> None:
        with self._tell.chapter("Deleting the object keeps the data"):
            self._tell.say(
                "`deletionPolicy` is Retain unless somebody says otherwise: a deleted object, or a whole deleted "
                "GitOps application, costs no data. The last Event says where it is."
            )
            self._kubectl("delete", "repository", REPOSITORY, *_IN_NAMESPACE)
            self._state.wait_event(REPOSITORY, "Retained")
            self._last_word("Retained")
            self._node(*self._world.look_behind(REPOSITORY))
            gone = self._world.on_node(("test", "-e", self._world.mountpoint(REPOSITORY)))
            expect("the public path is gone", gone.code != 0)

            self._tell.say("The same file applied again does not take the data over by accident:")
            self._kubectl("apply", "-f", "repository.yaml")
            self._state.wait_reason(REPOSITORY, "DatasetForeign")
            self._show_condition("Ready")
            self._tell.say("It does when the spec says so:")
            self._patch(REPOSITORY, {"storage": {"adopt": True}})
            self._kubectl("wait", f"repository/{REPOSITORY}", *_IN_NAMESPACE, "--for=condition=Ready", "--timeout=60s")
            self._node("tail", "-n", "1", f"{self._world.mountpoint(REPOSITORY)}/{_FILE}")
            expect("the record is what was written", self._record_is_there())
            self._tell.checked("the data outlived its object, and was taken over again whole")

    def _delete(self) -> None:
        with self._tell.chapter("Destroying data has to be confirmed"):
            self._tell.say(
                "With `deletionPolicy: Delete` the data goes with the object, but only once the repository's name has "
                "been repeated in an annotation. Until then the deletion waits, and says for what:"
            )
            self._patch(REPOSITORY, {"deletionPolicy": "Delete"})
            self._kubectl("delete", "repository", REPOSITORY, *_IN_NAMESPACE, "--wait=false")
            self._state.wait_reason(REPOSITORY, "NotConfirmed", "DeletionBlocked")
            self._show_condition("DeletionBlocked")
            expect("the data is there", self._record_is_there())
            self._kubectl("annotate", "repository", REPOSITORY, *_IN_NAMESPACE, f"{CONFIRM_DELETE}={REPOSITORY}")
            self._kubectl("wait", f"repository/{REPOSITORY}", *_IN_NAMESPACE, "--for=delete", "--timeout=60s")
            event = self._state.wait_event(REPOSITORY, "Destroyed")
            expect("the Event names the place", self._world.place(REPOSITORY) in event, event)
            self._last_word("Destroyed")
            self._node(*self._world.look_behind(REPOSITORY), fails=True)
            expect("the object is gone", self._state.repository(REPOSITORY) is None)
            self._tell.checked(
                "unconfirmed: nothing lost; confirmed: object, data and link are gone, and an Event tells it"
            )
