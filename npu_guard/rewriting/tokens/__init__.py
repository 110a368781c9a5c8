"""Regions where feature maps are tokens, and the same computation on maps."""
