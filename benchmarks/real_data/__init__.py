"""Walk-forward on the bundled universe: settings tried on days before 2000, and what the chosen ones earn after."""
