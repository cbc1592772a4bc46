"""From TFRecords to batches, and what is subtracted from them and added to them."""
