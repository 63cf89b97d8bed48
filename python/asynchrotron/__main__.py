"""`python -m asynchrotron`: see cli.py. The program takes over this module's namespace, so it holds nothing else."""

from asynchrotron.cli import main

main()
