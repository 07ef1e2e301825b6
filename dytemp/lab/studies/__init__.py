"""What is computed from several runs: studies, statistics, the papers' numbers, verdicts."""
