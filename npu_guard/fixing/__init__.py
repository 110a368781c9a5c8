"""The search for substitutions, the plan, the check of one block, the driver, rollback and the report."""
