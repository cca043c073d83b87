import os, signal, sys
# A terminal's Ctrl-C is the master's to answer. It is held back from the start, but a script in the interpreter's place lets it in.
signal.signal(signal.SIGINT, signal.SIG_IGN)
if sys.version_info < (3, 9):
    sys.exit("monoceros: Python 3.9 or later is needed, but %s is %s" % (sys.executable, sys.version.split()[0]))
if "t" in getattr(sys, "abiflags", ""):
    sys.exit("monoceros: the free-threaded build of Python is not there yet: %s" % sys.executable)
if sys.path and sys.path[0] == "":
    sys.path[0] = os.getcwd()
sys.argv = sys.argv[1:] or ["monoceros"]
sys.path.insert(0, "/proc/self/fd/" + os.environ["MONOCEROS_PY_FD"])
try:
    import monoceros.mold
finally:
    del sys.path[0]
sys.exit(monoceros.mold.main())
