"""How: plain Python, a module a stage, and the rooms that the stages use."""

import gc
import os

# How often a waiting thread looks before it gives its core away. By default it looks for milliseconds, and where another
# process needs that core, each short parallel section waits for the scheduler: beside one busy process on 2 cores a
# training step took 1.1 s instead of 0.04 s; so 0.1 s, and 0.05 s where nothing else runs. It has to be said before torch
# starts its threads, and a stage can be started in many ways, so it is said here.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# How many objects are made between two searches for garbage: at 700, the default, these searches take a fifth of the time in which
# a stage imports torch, 1 s of 5.
gc.set_threshold(50_000, *gc.get_threshold()[1:])
