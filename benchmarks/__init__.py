"""What operations cost, measured: `make bench`. Figures are stated in benchmarks/README.md."""
