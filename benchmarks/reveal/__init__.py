"""Ways to switch what a public path shows from one mounted generation to the next, under readers.

    python -m benchmarks.reveal [--switches 1000] [--json FILE]

starts a storage-node guest and runs `benchmarks.reveal.guest` in it, which prints counts and times for each technique.
Counts are what the choice rests on; times are compared within one run only, as the guest is emulated.
"""
