"""From batches to checkpoints, learning curves and error rates."""
