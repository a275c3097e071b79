"""The parts of the page that writes recipes."""
