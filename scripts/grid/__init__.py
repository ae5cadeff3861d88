"""Many runs: which, where, how far, and their numbers side by side."""
