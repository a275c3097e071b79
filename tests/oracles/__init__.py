"""Our merges against the libraries of others, each run by an interpreter of its own; mergekit is in test_oracles.py."""
