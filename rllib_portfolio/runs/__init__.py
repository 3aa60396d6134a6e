"""One training run: its folder, its loop, its validation and its storage."""
