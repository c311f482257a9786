"""What a run leaves behind: its directory, lock, state, log.txt, records and progress line."""
