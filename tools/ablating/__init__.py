"""The rooms of tools/ablate.py."""
