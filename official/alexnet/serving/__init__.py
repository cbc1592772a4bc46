"""From a checkpoint to a SavedModel that needs nothing of this package."""
