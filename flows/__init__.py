"""When: the doors, which start DVC and the verbs, and the rooms that the doors use."""

from tasks.machine.interpreter import explain_missing_packages

explain_missing_packages()  # the door's own imports are next
