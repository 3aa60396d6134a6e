"""RLModules, which wrap the torch modules of `networks/` for training with RLlib."""
