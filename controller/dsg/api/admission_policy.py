"""The ValidatingAdmissionPolicies that come with the CRDs: who may open a transaction, and in whose name.

Only the API server knows who sends a request and which groups they are in, so this is where it is checked
(Kubernetes: ValidatingAdmissionPolicy, v1 since 1.30). The operator checks again what it can (dsg.api.access).
"""

from __future__ import annotations

from typing import Any

from dsg.api.names import API_VERSION, GROUP, VERSION

FILE = f"{GROUP}_admissionpolicies.yaml"
AUTHOR = f"transaction-author.{GROUP}"
ACCESS = f"transaction-access.{GROUP}"
_ADMISSION = "admissionregistration.k8s.io/v1"


def _member(role: str) -> str:
    """Return the CEL expression for: the requester is among the repository's people of a role, by name or group."""
    people = f"params.spec.access.{role}"
    return (
        f"has({people}) && ("
        f"(has({people}.users) && request.userInfo.username in {people}.users) || "
        f"(has({people}.groups) && has(request.userInfo.groups) && "
        f"{people}.groups.exists(g, g in request.userInfo.groups)))"
    )


def _same(field: str) -> str:
    """Return the CEL expression for: an update leaves a list in the metadata as it was."""
    new, old = (f"{which}.metadata.?{field}.orValue([])" for which in ("object", "oldObject"))
    return f"{new} == {old}"


def _matches(operations: list[str]) -> dict[str, Any]:
    rule = {
        "apiGroups": [GROUP],
        "apiVersions": [VERSION],
        "operations": operations,
        "resources": ["synctransactions"],
    }
    return {"resourceRules": [rule]}


def _policy(name: str, operations: list[str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": _ADMISSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"failurePolicy": "Fail", "matchConstraints": _matches(operations), **spec},
    }


def _binding(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": _ADMISSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], **spec},
    }


def policies() -> list[dict[str, Any]]:
    """Return the policies and their bindings."""
    author = _policy(
        AUTHOR,
        ["CREATE", "UPDATE"],
        validations=[
            {
                "expression": "request.operation != 'CREATE' || object.spec.author == request.userInfo.username",
                "messageExpression": (
                    "'spec.author is ' + object.spec.author + ' and you are ' + request.userInfo.username + "
                    "': a transaction is made in your own name (kubectl auth whoami)'"
                ),
                "message": "spec.author must be your own name",
                "reason": "Forbidden",
            },
            {
                # Whoever changes metadata alone, such as an operator or a garbage collector, may do so.
                "expression": (
                    "request.operation != 'UPDATE' || object.spec == oldObject.spec || "
                    "oldObject.spec.author == request.userInfo.username"
                ),
                "messageExpression": (
                    "'the transaction is ' + oldObject.spec.author + \"'s, and only they may commit or abort it\""
                ),
                "message": "only its author may change a transaction",
                "reason": "Forbidden",
            },
            {
                # Who names an owner that is not there has the garbage collector delete the object. Kubernetes'
                # OwnerReferencesPermissionEnforcement asks for the same right, where it is switched on.
                "expression": (
                    "request.operation != 'UPDATE' || oldObject.spec.author == request.userInfo.username || "
                    f"({_same('ownerReferences')} && {_same('finalizers')}) || "
                    f"authorizer.group('{GROUP}').resource('synctransactions')"
                    ".namespace(request.namespace).name(request.name).check('delete').allowed()"
                ),
                "messageExpression": (
                    "'ownerReferences and finalizers decide how long the transaction lives: only ' + "
                    "oldObject.spec.author + ', or who may delete it, may change them'"
                ),
                "message": "only its author, or who may delete it, may change ownerReferences and finalizers",
                "reason": "Forbidden",
            },
        ],
    )
    access = _policy(
        ACCESS,
        ["CREATE"],
        paramKind={"apiVersion": API_VERSION, "kind": "Repository"},
        variables=[
            # Evaluated for each Repository of the namespace; only the one that is named has a say.
            {"name": "named", "expression": "params.metadata.name == object.spec.repositoryRef.name"},
            {"name": "restricted", "expression": "variables.named && has(params.spec.access)"},
            {"name": "admin", "expression": f"variables.restricted && {_member('admins')}"},
            {"name": "writer", "expression": f"variables.restricted && {_member('writers')}"},
            {"name": "reader", "expression": f"variables.restricted && {_member('readers')}"},
        ],
        validations=[
            {
                "expression": (
                    "!variables.restricted || variables.admin || "
                    "(variables.writer && object.spec.operation != 'Restore') || "
                    "(variables.reader && object.spec.operation == 'Read')"
                ),
                "messageExpression": (
                    "request.userInfo.username + ' is not among the ' + "
                    "(object.spec.operation == 'Restore' ? 'admins' : object.spec.operation == 'Read' ? "
                    "'readers, writers or admins' : 'writers or admins') + ' of Repository ' + "
                    "params.metadata.name + ' (spec.access): ask who administers it'"
                ),
                "message": "you are not among those whom spec.access of the Repository admits",
                "reason": "Forbidden",
            },
            {
                "expression": "!variables.named || object.spec.node == params.spec.storage.node",
                "messageExpression": (
                    "'Repository ' + params.metadata.name + ' is on node ' + params.spec.storage.node + "
                    "', spec.node says ' + object.spec.node"
                ),
                "message": "spec.node must be the Repository's node",
                "reason": "Invalid",
            },
        ],
    )
    # A transaction of a Repository that does not exist is let through: the operator says so in its status.
    parameters = {"selector": {}, "parameterNotFoundAction": "Allow"}
    return [author, _binding(AUTHOR), access, _binding(ACCESS, paramRef=parameters)]
