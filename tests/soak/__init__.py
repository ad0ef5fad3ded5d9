"""Kills, flips, signals, pairs of starts: what docs/reliability.md promises, tried out at random.

`make soak SECONDS=600 SEED=0` tries as much as it has time for and prints the counts; the test
suite has a short form of it.
"""
