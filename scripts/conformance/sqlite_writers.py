"""Several processes write to one SQLite database; afterwards it must be whole and hold all of it.

    sqlite_writers.py FILE JOURNAL_MODE PROCESSES TRANSACTIONS
"""

import os
import sqlite3
import sys


def connect(file, mode):
    database = sqlite3.connect(file, timeout=120, isolation_level=None)
    answer = database.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]
    assert answer == mode, f"asked for {mode}, got {answer}"
    return database


def write(file, mode, number, transactions):
    database = connect(file, mode)
    for count in range(transactions):
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE counter SET value = value + 1")
        database.execute(
            "INSERT INTO rows VALUES (?, ?, ?)",
            (number, count, os.urandom((count * 37) % 6000)),
        )
        if count % 10 == 9:
            database.execute("ROLLBACK")
        else:
            database.execute("COMMIT")
        if count % 25 == 0:
            database.execute("SELECT sum(length(bytes)) FROM rows").fetchone()


def main():
    file, mode, processes, transactions = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    database = connect(file, mode)
    database.execute("CREATE TABLE counter (value)")
    database.execute("INSERT INTO counter VALUES (0)")
    database.execute("CREATE TABLE rows (process, number, bytes, PRIMARY KEY (process, number))")
    database.close()
    writers = []
    for number in range(processes):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                write(file, mode, number, transactions)
                status = 0
            finally:
                os._exit(status)
        writers.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in writers]
    assert statuses == [0] * processes, f"the writers ended with {statuses}"
    database = connect(file, mode)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    committed = processes * (transactions - transactions // 10)
    assert database.execute("SELECT value FROM counter").fetchone()[0] == committed
    assert database.execute("SELECT count(*) FROM rows").fetchone()[0] == committed


main()
