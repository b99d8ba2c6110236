"""One folder a line of research, and `quickstart`."""
