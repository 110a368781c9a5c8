"""Rules on a graph for a device: Rule, Context, the engine, the registry of packs, examples and manual pages."""
