"""`python -m dsg.operator`, the same as `dsg-operator`."""

from dsg.operator.cli import main

main()
