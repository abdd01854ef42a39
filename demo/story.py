"""The story: a Repository declared in YAML becomes a reconciled dataset, is kept so, and tells so.

Every command is run for real and its output shown; every chapter ends with what was checked on the real state.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from demo import specs
from demo.narrator import Narrator
from demo.specs import POOL, REPOSITORY, RIVAL
from demo.state import NAMESPACE, State, expect, until
from demo.world import NODE, OPERATOR_NAMESPACE, Done, World
from dsg.api.names import CONFIRM_DELETE

_FILE, _RECORD = "input/interviews.csv", "2026-11-25,interview,17"
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

    def tell(self) -> None:
        """Tell all of it. Raises Unexpected when something does not show what it should."""
        self._stage()
        self._pool()
        self._refusals()
        self._repository()
        self._data()
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
                f"operator; here it is {NODE}. A person declares in YAML what should be, and the operator makes it so."
            )
            self._kubectl("get", "customresourcedefinitions")
            self._write("namespace.yaml", specs.NAMESPACE_SPEC, show=False)
            self._kubectl("apply", "-f", str(OPERATOR_NAMESPACE), "-f", "namespace.yaml")
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

    def _data(self) -> None:
        with self._tell.chapter("The data's place on the node"):
            self._tell.say(
                "On the node, a link at the public path leads to the repository's current generation, g1. Researchers "
                "will fill it by `kubectl dsg sync`, which a later stage of this project brings; here one record is "
                "written by hand, so that there is something to lose."
            )
            mountpoint = self._world.mountpoint(REPOSITORY)
            self._node(*self._world.write(REPOSITORY, _FILE, _RECORD))
            shown = self._look(self._world.look(REPOSITORY))
            owner = self._world.owner()
            line = f"drwxrws--- {owner['uid']}:{owner['gid']} {mountpoint}"
            expect("owner and mode are the declared ones", line in shown, shown)
            self._tell.checked("the link leads to g1; owner and mode are the declared ones")

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

    def _show(self, path: str) -> None:
        self._kubectl("get", "repository", REPOSITORY, *_IN_NAMESPACE, "-o", f"jsonpath={path}")

    def _show_condition(self, type_: str) -> None:
        self._show(f'{{.status.conditions[?(@.type=="{type_}")].message}}')

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
        file = f"{self._world.mountpoint(REPOSITORY)}/{_FILE}"
        return self._world.on_node(("cat", file)).text.strip() == _RECORD

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
            self._node("cat", f"{self._world.mountpoint(REPOSITORY)}/{_FILE}")
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
