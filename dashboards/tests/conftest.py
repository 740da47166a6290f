import pathlib
import sys

# The gateway as a child process is written once, with the tests of the gateway.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "gateway" / "tests" / "sdk"))
