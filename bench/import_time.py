"""What importing the package costs beside importing asyncio: CPU time beyond an interpreter that imports neither.

    python bench/import_time.py

Processes take turns, and the cheapest of each is shown, as other work on the machine only adds. Bytecode is compiled
before the first that counts.
"""

import argparse
import resource
import subprocess
import sys

PROGRAMS = {"interpreter": "pass", "asyncio": "import asyncio", "asynchrotron": "import asynchrotron"}


def cpu_ms(program: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-I", "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    least = {name: cpu_ms(program) for name, program in PROGRAMS.items()}
    for _ in range(rounds):
        for name, program in PROGRAMS.items():
            least[name] = min(least[name], cpu_ms(program))
    ours, theirs = (least[name] - least["interpreter"] for name in ("asynchrotron", "asyncio"))
    print(f"import asyncio: {theirs:.1f} ms of CPU; import asynchrotron: {ours:.1f} ms, {ours / theirs:.2f} times that")


if __name__ == "__main__":
    main()
