"""Reads one object with DuckDB's CSV reader and writes JSON: only text columns, no compression of the output, one thread."""

import json
import sys

import duckdb

COLUMNS = {f"field_{number}": "VARCHAR" for number in range(1, 35)}

connection = duckdb.connect(config={"threads": 1})
read = connection.execute(
    f"""COPY (SELECT * FROM read_csv($path, delim = ' ', quote = '"', escape = '"', header = false, auto_detect = false,
    null_padding = false, columns = {COLUMNS})) TO '/dev/null' (FORMAT json)""",
    {"path": sys.argv[1]},
).fetchone()
print(json.dumps({"lines": read[0], "rejected": 0}))
