"""Speed and memory of the package beside others; see `benchmarks.timing`."""
