"""Makes the pages of the documentation: runs their commands, fills in their numbers, typesets their formulas."""
