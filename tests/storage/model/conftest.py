"""A model node with one pool, and its two interfaces."""

from __future__ import annotations

import pytest

from dsg.storage.zfs.model import ModelHost, ModelNode, ModelZfs


@pytest.fixture
def node() -> ModelNode:
    """A node with the pool `tank`."""
    made = ModelNode(seed=7, clock=lambda: 1_700_000_000.0)
    made.add_pool("tank", mountpoint="legacy")
    return made


@pytest.fixture
def zfs(node: ModelNode) -> ModelZfs:
    """Its pools."""
    return ModelZfs(node)


@pytest.fixture
def host(node: ModelNode) -> ModelHost:
    """Its file namespace."""
    return ModelHost(node)
