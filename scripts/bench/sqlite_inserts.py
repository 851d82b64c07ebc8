"""sqlite_inserts.py ELAPSED ROWS: inserts rows one by one; the nanoseconds it took go to ELAPSED."""

import sqlite3
import sys
import time

elapsed, rows = sys.argv[1], int(sys.argv[2])
# No transactions of Python's own: each statement is one.
connection = sqlite3.connect("rows.db", isolation_level=None)
connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT)")
began = time.monotonic_ns()
for number in range(rows):
    connection.execute("INSERT INTO rows VALUES (?, ?)", (number, "x" * 100))
connection.close()
took = time.monotonic_ns() - began
with open(elapsed, "w", encoding="ascii") as file:
    print(took, file=file)
