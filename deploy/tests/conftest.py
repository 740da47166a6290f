import pathlib
import sys

# Waiting and free ports are written once, with the tests of the gateway.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "gateway" / "tests" / "sdk"))
