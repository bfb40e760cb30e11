"""How: plain Python, a module a stage, and the rooms that the stages use."""

import os

# Threads that wait give their core away. By default they spin, and where another process has the core, each short
# parallel section then waits for the scheduler: embedding took 27 s instead of 1 s beside one busy process on 2 cores.
# It has to be said before torch starts its threads, and a stage can be started in many ways, so it is said here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
