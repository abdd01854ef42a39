"""A model of OpenZFS and of the node around it, in memory, with OpenZFS's own semantics.

For tests, benchmarks and demonstrations: `ModelNode` is the node; `ModelZfs`, `ModelHost` and `ModelTrees` act on it
through the interfaces that the real node has. tests/contract runs against both.
"""

from dsg.storage.zfs.model.faults import OPERATIONS, FaultHook, Killed, Moment, PowerCut
from dsg.storage.zfs.model.host import ModelHost
from dsg.storage.zfs.model.node import ModelNode
from dsg.storage.zfs.model.pool import ModelPool
from dsg.storage.zfs.model.trees import ModelTrees
from dsg.storage.zfs.model.zfs import ModelZfs

__all__ = [
    "OPERATIONS",
    "FaultHook",
    "Killed",
    "ModelHost",
    "ModelNode",
    "ModelPool",
    "ModelTrees",
    "ModelZfs",
    "Moment",
    "PowerCut",
]
