"""What a pull request is held to: baselines, differences between two versions, reproducers, and the cache of results."""
