"""What is known of a graph without a device: shapes, constants, costs, layout, and the `Facts` that answer for them."""
