#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Becomes a sqlite3 shell that works for a while inside a transaction, on a database that it locks.
#
#   sqlite.sh LOG ROWS
#
# LOG.sql is what it reads, LOG.db the database, LOG.out what it answers; the last line of that is `ok ROWS SUM SUM`.
set -eu
log=$1 rows=$2
rm -f "$log.db" "$log.db-journal" "$log.out"
# Each of these is a transaction of its own, so a journal that is there later is that of the long one.
sqlite3 -batch "$log.db" <<END
CREATE TABLE t(number INTEGER PRIMARY KEY, square INTEGER, text TEXT);
CREATE TABLE before(number INTEGER);
INSERT INTO before VALUES (17);
END
cat >"$log.sql" <<END
PRAGMA temp_store=MEMORY;
PRAGMA cache_size=200;
BEGIN IMMEDIATE;
UPDATE before SET number = 18;
WITH RECURSIVE counter(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM counter WHERE n < $rows)
	INSERT INTO t SELECT n, n * n, printf('row %d of $rows', n) FROM counter;
SELECT 'inside', count(*), sum(number) FROM t;
WITH RECURSIVE counter(n, a, b) AS (VALUES(1, 0, 1) UNION ALL
	SELECT n + 1, b, (a + b) % 1000000007 FROM counter WHERE n < $rows * 4)
	SELECT 'fibonacci', max(n), sum(a) % 1000000007 FROM counter;
COMMIT;
PRAGMA integrity_check;
SELECT 'ok ' || count(*) || ' ' || sum(number) || ' ' || sum(square) || ' ' || (SELECT number FROM before) FROM t;
END
echo "READY $$" >>"$log"
exec sqlite3 -batch "$log.db" <"$log.sql" >"$log.out" 2>>"$log"
