"""Everything that a GPU must show, in one command: python -m tests.gpu --out DIR. See docs/gpu.md."""
