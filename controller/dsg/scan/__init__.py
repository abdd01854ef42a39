"""From a researcher's working copy to its entries: walk, hash what changed, remember the rest (docs/scan.md)."""
