"""`tocsin bench`: the engine beside what it is held against, measured in one run."""
