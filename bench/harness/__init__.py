"""What compare.py is made of: who competes, how one measurement is run, what is printed about it."""
