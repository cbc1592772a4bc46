"""From the published archives to shards of records, once."""
