import sys

# While Python looks for the module of `python -m flows.DOOR`, sys.argv begins with -m. Help is given then, before the
# door imports Prefect.
if sys.argv[:1] == ["-m"] and {"-h", "--help"} & set(sys.argv):
    from flows.server.command_lines import show_help

    show_help(sys.orig_argv)
