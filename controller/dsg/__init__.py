"""dsg: GitOps for research data."""
