"""From the published archives to shards of records, once, as in 2012."""
