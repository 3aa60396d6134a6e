"""How training scales over env runners and nodes."""
