#!/bin/bash
# Locks on files: refused by name in a move, and given up for its last moment where that is asked
# for (bpmove --locks). 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
cd "$t" || exit 1

# Holds bytes 5 to 14, and of 100 and more a share, of file f until stop is there.
hold='import fcntl, os, time
f = open("f", "r+b")
fcntl.lockf(f, fcntl.LOCK_EX, 10, 5)
fcntl.lockf(f, fcntl.LOCK_SH, 0, 100)
while not os.path.exists("stop"):
	print(".", flush=True)
	time.sleep(0.01)'
# can HOW FIRST LENGTH: could somebody else have it?
can='import fcntl, sys
try:
	fcntl.lockf(open("f", "r+b"), getattr(fcntl, sys.argv[1]) | fcntl.LOCK_NB,
		    int(sys.argv[3]), int(sys.argv[2]))
except BlockingIOError:
	sys.exit(1)'
held() {
	status "$1: its bytes are locked" 1 python3 -c "$can" LOCK_SH 14 1
	status "$1: what it shares cannot be had alone" 1 python3 -c "$can" LOCK_EX 4096 1
	status "$1: but shared" 0 python3 -c "$can" LOCK_SH 4096 1
	status "$1: the others are free" 0 python3 -c "$can" LOCK_EX 15 85
}
goes_on() {
	local n
	n=$(stat -c %s out)
	within 10 "$1: it goes on" eval "[ \"\$(stat -c %s out)\" -gt $n ]"
}

# 1 not without being asked for, by name; then they are held wherever it is
head -c 5000 /dev/zero >f
python3 -c "$hold" >out &
p=$!
within 20 'it writes' test -s out
has 'refused' "$(bpmove $p 0 2>&1)" "bpmove: $p: fd 3 holds a lock on */f; *but by --locks"
goes_on refused
held refused
ok 'to node 0' bpmove --locks $p 0
held 'on node 0'
ok 'to node 1, its memory ahead' bpmove --locks --live $p 1
held 'on node 1'
ok 'home' bpmove --locks $p master
held 'home again'

# 2 who waits for one would have it
python3 -c 'import fcntl; fcntl.lockf(open("f", "r+b"), fcntl.LOCK_EX, 1, 12)' &
waits=$!
within 10 'somebody waits' grep -q -- '->' /proc/locks
has 'somebody waits for it' "$(bpmove --locks $p 0 2>&1)" \
	"bpmove: $p: fd 3 holds a lock that another process waits for; try again"
held 'waited for'
kill $waits
wait $waits 2>/dev/null

# 3 who asks again and again gets it in that moment: it stays, and has it again when that is done
python3 -c 'import fcntl, os, time
f = open("f", "r+b")
while not os.path.exists("caught"):
	try:
		fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 12)
		open("caught", "w").close()
		time.sleep(0.2)
	except BlockingIOError:
		pass' &
thief=$!
for ((i = 0; i < 200; i++)); do
	[ -e caught ] && break
	said=$(bpmove --locks $p $((i % 2 ? -1 : 0)) 2>&1)
done
ok 'caught' test -e caught
has 'by name' "$said" "bpmove: $p: fd 3: its lock is held by another (*)"
wait $thief
goes_on caught
held caught
: >stop
wait $p
is 'it ends with 0' $? 0

# 4 the lock of a description goes, but not where another process has the description as well
rm -f stop child.stop out
perl -e '$| = 1; open(F, ">>f"); flock(F, 2); $^F = 99;
	if (!fork) { until (-e "child.stop") { select undef, undef, undef, 0.01 } exit }
	until (-e "stop") { print "."; select undef, undef, undef, 0.01 } wait' >out &
p=$!
within 20 'it writes' test -s out
has 'shared' "$(bpmove --locks $p 0 2>&1)" \
	"bpmove: $p: fd 3 holds a lock that process [0-9]* shares; it cannot move"
goes_on shared
: >child.stop
within 10 'alone' bpmove --locks $p 0
is 'it is there' "$(node_of $p)" 0
status 'flock: locked there' 1 flock -n f true
ok 'flock: home' bpmove --locks $p master
status 'flock: locked here' 1 flock -n f true
goes_on flock
: >stop
wait $p
is 'it ends with 0' $? 0
status 'flock: free' 0 flock -n f true

# 5 sqlite3 in the middle of a transaction goes round
if command -v sqlite3 >/dev/null; then
	{
		echo 'CREATE TABLE t(x INTEGER); BEGIN;'
		for ((i = 1; i <= 200; i++)); do
			echo 'WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000)'
			echo "INSERT INTO t SELECT n * $i FROM c; SELECT $i;"
		done
		echo 'COMMIT; SELECT count(*), sum(x) FROM t;'
	} >script
	{ seq 1 200; echo "1000000|$((5000 * 5001 * 200 * 201 / 4))"; } >want
	rm out
	sqlite3 -init /dev/null data.db '.read script' </dev/null >out 2>err &
	p=$!
	within 20 'sqlite writes' lines out 2
	moved sqlite 10 --locks
	wait $p
	is 'sqlite ends with 0' $? 0
	is 'sqlite: all of it' "$(cmp out want 2>&1)" ''
	is 'sqlite: the data base' "$(sqlite3 data.db 'PRAGMA integrity_check')" ok
	[ -s err ] && bad "sqlite: $(head -n 3 err)"
fi
finish
