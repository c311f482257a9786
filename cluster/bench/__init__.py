"""The benchmark: how fast every part is, and how far from what the machine can do at best. Command: bench."""
