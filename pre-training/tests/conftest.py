import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "pre-training"), str(ROOT / "benchmarks"), str(Path(__file__).parent)]
