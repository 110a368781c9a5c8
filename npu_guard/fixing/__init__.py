"""fixing."""
