"""One contract for the Zfs and Host interfaces: it holds on the model and on real OpenZFS.

On the model by default; on a real pool with DSG_TEST_POOL=<pool>, as root on a storage node. Needs dsg, pytest and
hypothesis only. Each test stays below a dataset and a directory of its own.
"""
