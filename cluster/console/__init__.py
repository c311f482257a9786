"""The terminal and the process: signals, output that may fail, what is missing, JSON for programs."""
