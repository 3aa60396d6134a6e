"""One training run: its folder, its loop, its validation, and the place where it is kept."""
