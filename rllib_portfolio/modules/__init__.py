"""RLModules: the networks that RLlib trains."""
