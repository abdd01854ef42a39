#!/usr/bin/env python3
"""A kubectl for tests: objects in a directory, an operator's answers as `world.json` there says, every call recorded.

Behaves as kubectl does towards the commands that the plugin uses, and refuses all others, so that no test passes
because of an argument that kubectl would not take.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

# It is started hundreds of times: nothing is imported that can be done without.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

HOME = Path(os.environ["FAKE_KUBECTL"])
WORLD = json.loads((HOME / "world.json").read_text())


def fail(text: str, code: int = 1) -> NoReturn:
    sys.stderr.write(text + "\n")
    sys.exit(code)


def parse(argv: list[str]) -> tuple[dict[str, str], list[str], int]:
    flags: dict[str, str] = {}
    words: list[str] = []
    verbosity = 0
    for arg in argv:
        if arg == "-v=8":
            verbosity = 8
        elif arg.startswith("--"):
            name, _, value = arg[2:].partition("=")
            flags[name] = value
        elif arg.startswith("-"):
            fail(f"error: unknown shorthand flag: {arg}")
        else:
            words.append(arg)
    known = {
        "request-timeout",
        "context",
        "namespace",
        "kubeconfig",
        "output",
        "filename",
        "type",
        "patch",
        "all-namespaces",
        "api-group",
        "minify",
        "raw",
    }
    if unknown := set(flags) - known:
        fail(f"error: unknown flag: --{unknown.pop()}")
    return flags, words, verbosity


def place(flags: dict[str, str], name: str) -> Path:
    return HOME / "objects" / flags.get("namespace", "research") / f"{name}.json"


def write(path: Path, obj: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(obj))
    new.rename(path)


def condition(status: str, reason: str, message: str) -> dict[str, str]:
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-31T12:00:00Z",
    }


def operated(obj: Any) -> Any:
    """Return the transaction with what the operator says of it after so many looks."""
    if obj["kind"] != "SyncTransaction":
        return obj
    looks = obj.setdefault("looks", {})
    intent = obj["spec"]["intent"]
    looks[intent] = looks.get(intent, 0) + 1
    said = WORLD["operator"].get(f"{obj['spec']['operation']}/{intent}") or WORLD["operator"].get(intent)
    step = said[min(looks[intent], len(said)) - 1] if said else None
    if step:
        obj["status"] = {
            "observedGeneration": 1,
            **{key: value for key, value in step.items() if key not in {"reason", "message"}},
            "conditions": [condition("Unknown", step.get("reason", "Working"), step.get("message", ""))],
        }
    return obj


def main() -> None:  # noqa: PLR0915  (one table of commands)
    flags, words, verbosity = parse(sys.argv[1:])
    with (HOME / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps([words, flags]) + "\n")
    key = " ".join(words[:2])
    if hang := WORLD.get("hang", {}).get(key, WORLD.get("hang", {}).get(words[0])):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        time.sleep(hang)
    failure = WORLD.get("fail", {}).get(key) or WORLD.get("fail", {}).get(words[0]) or WORLD.get("fail", {}).get("*")
    if failure:
        fail(failure)
    namespace = flags.get("namespace", "research")
    match words:
        case ["get"] if "raw" in flags:
            if verbosity:
                date = WORLD.get("date") or time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
                sys.stderr.write(f"I1125 12:00:00.000000 1 rt.go:1] Response Headers:\n    Date: {date}\n")
            print("{}")
        case ["get", kind]:
            spaces = (
                sorted((HOME / "objects").glob("*")) if "all-namespaces" in flags else [HOME / "objects" / namespace]
            )
            items = [json.loads(p.read_text()) for space in spaces for p in sorted(space.glob("*.json"))]
            print(json.dumps({"kind": "List", "items": [i for i in items if kind.startswith(i["kind"].lower()[:9])]}))
        case ["get", kind, name]:
            path = place(flags, name)
            if not path.exists():
                fail(f'Error from server (NotFound): {kind} "{name}" not found')
            obj = operated(json.loads(path.read_text()))
            write(path, obj)
            print(json.dumps({key: value for key, value in obj.items() if key != "looks"}))
        case ["create"]:
            obj = json.load(sys.stdin)
            name = obj["metadata"]["name"]
            obj["metadata"] |= {"uid": f"uid-{name}", "namespace": namespace, "generation": 1}
            write(place(flags, name), obj)
            print(json.dumps(obj))
        case ["patch", kind, name]:
            path = place(flags, name)
            if not path.exists():
                fail(f'Error from server (NotFound): {kind} "{name}" not found')
            obj = json.loads(path.read_text())
            if flags.get("type") != "merge":
                fail("error: --type must be merge here")
            change = json.loads(flags["patch"])
            if obj["spec"]["intent"] != "Stage":
                fail(f'The SyncTransaction "{name}" is invalid: spec: Invalid value: intent can\'t be changed any more')
            obj["spec"] |= change["spec"]
            write(path, obj)
            print(json.dumps(obj))
        case ["auth", "whoami"]:
            print(json.dumps({"status": {"userInfo": {"username": WORLD["user"], "groups": ["researchers"]}}}))
        case ["auth", "can-i", verb, resource]:
            refused = f"{verb} {resource}" in WORLD.get("refused", [])
            print("no" if refused else "yes")
            sys.exit(1 if refused else 0)
        case ["version"]:
            print(
                json.dumps(
                    {"clientVersion": {"gitVersion": "v1.33.1"}, "serverVersion": {"gitVersion": WORLD["server"]}}
                )
            )
        case ["api-resources"]:
            print("\n".join(WORLD["kinds"]))
        case ["config", "view"]:
            name = flags.get("context") or "lab"
            if name not in WORLD["contexts"]:
                fail(f'error: context "{name}" does not exist')
            print(
                json.dumps(
                    {
                        "current-context": name,
                        "contexts": [{"name": name, "context": {"namespace": "research"}}],
                        "clusters": [{"name": "lab", "cluster": {"server": "https://lab.example:6443"}}],
                    }
                )
            )
        case _:
            fail(f"error: unknown command {words}")


main()
