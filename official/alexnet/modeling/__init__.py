"""The network of Krizhevsky et al. (2012), as one tensor or as two columns."""
