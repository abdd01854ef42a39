"""The lab: a real Kubernetes API and real OpenZFS storage nodes on one machine, for tests and for trying things out.

Nothing of the product imports it. `python -m lab --help` is its command line, `lab.library.Lab` its Python face.
"""
