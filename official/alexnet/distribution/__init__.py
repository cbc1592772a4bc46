"""Which device holds which column of which replica."""
