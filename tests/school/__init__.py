"""Two schools that take the two learners apart: `python -m tests.school world|policy`, see __main__.py."""
