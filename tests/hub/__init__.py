"""A Hub on the loopback, for tests: the wire contract of huggingface.co as its own clients speak it."""
