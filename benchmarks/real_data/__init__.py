"""Walk-forward on the bundled universe: which settings were tried on days before 2000, and what the chosen ones earn."""
