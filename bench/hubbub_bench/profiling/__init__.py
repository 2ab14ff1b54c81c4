"""Where the microseconds go: a sampling profiler on a broker at work, its samples turned into time for each message."""
