"""What substitutions work with: analyses, algebra and fits that several share, or that are too long for one file."""
