"""What tools/benchmark.py is made of: timing, bars, peers, and one file a suite."""
