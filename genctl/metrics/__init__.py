"""Measures: one file each, features → statistics → value."""
