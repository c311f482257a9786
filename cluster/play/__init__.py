"""Play inside the dream: the world model as a game in a web browser, live from Python or as a folder of files."""
