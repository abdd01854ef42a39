"""Manifests: what a version holds, entry by entry, in one canonical form that digests and histories rest on."""
