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

thief() { # FILE LOCK: asks for it again and again; $thief
	python3 -c 'import fcntl, os, sys, time
f = open(sys.argv[1], "r+b")
while not os.path.exists("caught"):
	try:
		exec(sys.argv[2])
		open("caught", "w").close()
		time.sleep(0.2)
	except BlockingIOError:
		pass' "$1" "$2" &
	thief=$!
}

# 3 who asks again and again gets it in that moment: it stays, and has it again when that is done
thief f "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 12)"
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

# 5 locks of a tree: of each process its own (POSIX), of a description that two of them have and the
# first has too (flock), or has not (flock), and of one that only a grandchild has (of a description)
cat >tree.py <<'EOF'
import fcntl, os, struct, time
def has(name, fd, how):
	fcntl.lockf(fd, fcntl.LOCK_EX, 10, 10 * how)
	open("pid." + name, "w").write(str(os.getpid()))
	while not os.path.exists("stop"):
		if name == "first":
			print(".", flush=True)
		time.sleep(0.01)
f, both, theirs = open("f", "r+b"), open("both", "w"), open("theirs", "w")
fcntl.flock(both, fcntl.LOCK_EX)
fcntl.flock(theirs, fcntl.LOCK_SH)
if os.fork() == 0:
	if os.fork() == 0:
		own = open("own", "w")
		fcntl.fcntl(own, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
		has("grandchild", f, 2)
		os._exit(0)
	has("child", f, 1)
	os.wait()
	os._exit(0)
theirs.close()
has("first", f, 0)
os.wait()
EOF
# Who has these bytes? (F_GETLK, asked on node $1.)
cat >who.py <<'EOF'
import fcntl, os, struct, sys
os.chdir(sys.argv[1])
for i in range(3):
	l = fcntl.fcntl(open("f", "r+b"), fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 10 * i, 10, 0))
	print(struct.unpack("hhqqi4x", l)[4])
EOF
tree_holds() { # WHAT NODE
	if [ "$2" = master ]; then
		is "$1: whose they are" "$(python3 who.py "$PWD")" "$pids"
	else
		is "$1: whose they are" "$(bpsh "$2" python3 "$PWD/who.py" "$PWD" </dev/null)" "$pids"
	fi
	for i in 0 10 20; do
		status "$1: byte $i is locked" 1 python3 -c "$can" LOCK_SH $i 1
	done
	status "$1: the others are free" 0 python3 -c "$can" LOCK_EX 30 0
	status "$1: of two, and the first" 1 flock -n both true
	status "$1: of two" 1 flock -nx theirs true
	status "$1: of two, shared" 0 flock -ns theirs true
	status "$1: of one" 1 python3 -c 'import fcntl, struct
fcntl.fcntl(open("own", "w"), 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))' 2>/dev/null
}
rm -f stop out
python3 tree.py >out &
p=$!
within 20 'it writes' test -s out
within 20 'all are there' test -s pid.grandchild
within 20 'all are there' test -s pid.child
pids=$(for i in first child grandchild; do cat "pid.$i" && echo; done)
tree_holds before master
has 'a tree is refused' "$(bpmove --tree $p 0 2>&1)" "bpmove: * holds a lock on */*; *but by --locks"
tree_holds 'refused' master
ok 'a tree to node 0' bpmove --tree --locks $p 0
tree_holds 'a tree on node 0' 0
ok 'a tree to node 1' bpmove --tree --locks $p 1
tree_holds 'a tree on node 1' 1
ok 'a tree comes home' bpmove --tree --locks $p master
tree_holds 'a tree at home' master
# somebody has taken one meanwhile: all of them stay, and have them again
rm -f caught
thief theirs "fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
for ((i = 0; i < 200; i++)); do
	[ -e caught ] && break
	said=$(bpmove --tree --locks $p $((i % 2 ? -1 : 0)) 2>&1)
done
ok 'caught' test -e caught
has 'by name' "$said" "bpmove: *fd *: its lock is held by another (*)"
wait $thief
goes_on caught
within 10 'they have it again' eval '! flock -nx theirs true'
tree_holds 'caught' "$(node_of $p)"
: >stop
wait $p
is 'the tree ends with 0' $? 0
status 'all are free' 0 flock -n both true

# 6 sqlite3 in the middle of a transaction goes round
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
