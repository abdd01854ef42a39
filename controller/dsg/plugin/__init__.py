"""`kubectl dsg`: the researcher's command line."""
