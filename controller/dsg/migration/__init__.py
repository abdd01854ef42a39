"""Older DSG projects: their config as a Repository, their repositories as versions."""
