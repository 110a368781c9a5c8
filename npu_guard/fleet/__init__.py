"""Many models: where they are, who checks them, what was found before, and the report over all of them."""
