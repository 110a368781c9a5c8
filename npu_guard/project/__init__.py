"""The user's project: settings, paths, the export of his modules, what `init` writes."""
