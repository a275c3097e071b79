"""Tests; a package so that `from tests import tiny` means this folder and no other."""
