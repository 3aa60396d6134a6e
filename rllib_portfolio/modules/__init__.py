"""RLModules: what RLlib trains, shells around the modules of `networks/`."""
