#!/bin/bash
# bpmove --lazy: the program looks at its memory the moment it is elsewhere, in laps home ->
# n0 -> n1 -> home; what keeps memory from following; a source that dies in the middle.
#
#	lazy.sh LAPS	2 nodes, pingtimeout 3
#	lazy.sh no	where no kernel has a userfaultfd: all goes along
. "$(dirname "$(readlink -f "$0")")/lib.sh"
cd "$t" || exit 1
program=$LAB_PROGRAMS/lazy_dynamic
said() { grep -q "$1" out; }
start() { # MODE MIB
	rm -f out # or what the one before has said would do
	"$program" "$@" >out 2>&1 </dev/null & p=$!
	within 60 "a program with $2 MiB" said ready
}
stop() {
	kill -9 $p 2>/dev/null
	wait $p 2>/dev/null
}
# Its mappings on the node where it is, while some of its memory is still to come.
follows() { [ "$(bpsh "$1" sh -c "grep -c 'VmFlags.* um' /proc/$p/smaps")" != 0 ]; }

if [ "${1:-}" = no ]; then
	start all 32
	for to in 0 1 master; do
		n=$((${n:-0} + 1))
		status "to $to, without userfaultfd there" 0 bpmove --lazy $p $to 2>why
		has 'which it says' "$(cat why)" '*userfaultfd*moved without*'
		within 60 "it runs on $to" said "^$n .* ok"
	done
	stop
	finish
fi

# -- laps
start all 32
n=0
for ((lap = 1; lap <= $1; lap++)); do
	for to in 0 1 master; do
		n=$((n + 1))
		bpmove --lazy $p $to 2>why || bad "lap $lap, to $to: $(cat why)"
		[ -s why ] && bad "lap $lap, to $to: $(cat why)"
		for ((i = 0; i < 600; i++)); do
			said "^$n .* ok" && break
			alive $p || break
			sleep 0.1
		done
		said "^$n .* ok" || { bad "lap $lap, to $to: $(tail -n 3 out)"; break 2; }
	done
done
is 'it was everywhere' "$(tail -n 1 out)" "$((3 * $1)) $(uname -n) ok"
stop

# -- its ghost serves its memory, and has its streams at 0 to 2, if they are closed too
rm -f out
"$program" all 32 >out 2>&1 <&- & p=$!
within 60 'a program without stdin' said ready
status 'without stdin, to 0' 0 bpmove --lazy $p 0
within 60 'it runs without stdin' said '^1 .* ok'
status 'without stdin, from 0 to 1' 0 bpmove --lazy $p 1
within 60 'it runs on 1 without stdin' said '^2 .* ok'
stop

# -- it asks before it looks at itself: what cannot go is called off, and goes on where it was
perl -e '$| = 1; use Socket; socket(S, PF_INET, SOCK_DGRAM, 0); my $m = "x" x 2e7;
	while (1) { print "."; select undef, undef, undef, 0.01 }' >dots &
p=$!
longer() { [ "$(stat -c %s dots)" -gt "$1" ]; }
within 20 'it writes' longer 0
for _ in 1 2 3; do
	has 'a socket' "$(bpmove --lazy $p 0 2>&1)" "bpmove: $p: fd [0-9]* is a socket; it cannot move"
	within 20 'it goes on' longer "$(stat -c %s dots)"
	is 'where it was' "$(node_of $p)" -1
done
stop
if [ -x /usr/bin/python3 ]; then
	# Refused at first, for what it shares with itself; then it is told what that is.
	/usr/bin/python3 -u -c '
import mmap, os, time
fd = os.memfd_create("twice")
os.ftruncate(fd, 8192)
twice = mmap.mmap(fd, 8192), mmap.mmap(fd, 4096)
big = bytearray(b"x" * 20000000)
n = 0
while True:
    n += 1
    twice[0][:8] = n.to_bytes(8, "little")
    assert twice[1][:8] == os.pread(fd, 8, 0) == n.to_bytes(8, "little")
    assert big.count(b"x", 0, 100000) == 100000
    print(n, os.uname().nodename)
    time.sleep(0.01)' >twice 2>&1 &
	p=$!
	counts() { grep -q " $1\$" twice; }
	within 20 'it counts' counts "$(uname -n)"
	ok 'memory that it has twice' bpmove --lazy $p 0
	within 20 'it counts on n0' counts n0
	ok 'and home' bpmove --lazy $p master
	# Called off while the ghost where it goes has still to send what it misses where it is: it
	# goes on there.
	# What goes on relaying its output at home has nothing of it.
	for _ in {1..20}; do
		bpmove --lazy $p 0 2>why
		bpmove --lazy $p master 2>>why
		alive $p || break
		grep 'that process' why && bad 'something of it is somebody else'"'"'s'
	done
	within 20 'and home again' bpmove --lazy $p master
	is 'it is home' "$(node_of $p)" -1
	stop
	is 'and was right' "$(grep -c -v '^[0-9]* [a-z0-9]*$' twice)" 0
fi

# -- guard pages stay what they are (Linux 6.13), and what has any goes along
if [ -x /usr/bin/python3 ]; then
	cat >guards.py <<'END'
import ctypes, mmap, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
m = mmap.mmap(-1, 8 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
at = ctypes.addressof(ctypes.c_char.from_buffer(m))
m[:] = b"x" * len(m)
if libc.madvise(ctypes.c_void_p(at + (4 << 20)), ctypes.c_size_t(8192), 102) < 0:
    print("none", flush=True)
    sys.exit()
r, w = os.pipe()
def look(*_):
    read = [libc.write(w, ctypes.c_void_p(at + (4 << 20) + o), ctypes.c_size_t(1)) for o in (-1, 0, 4096, 8192)]
    print(os.uname().nodename, *read, flush=True)
signal.signal(signal.SIGUSR1, look)
look()
while True:
    time.sleep(1)
END
	rm -f out
	last_is() { [ "$(tail -n 1 out)" = "$1" ]; }
	/usr/bin/python3 guards.py >out 2>&1 </dev/null & p=$!
	within 20 'guard pages' said .
	if ! said none; then
		for to in 0 1 master; do
			ok "guard pages to $to" bpmove --lazy $p $to
			kill -USR1 $p
			[ $to = master ] && where=$(uname -n) || where=n$to
			within 20 "they are so on $to" last_is "$where 1 -1 -1 1"
		done
		is 'guard pages were so' "$(grep -vc ' 1 -1 -1 1$' out)" 0
		is 'and it was home twice' "$(grep -c "^$(uname -n) " out)" 2
	fi
	stop
fi

# -- home again while memory follows: that one waits for the rest, and nothing of it is left behind
start wait 64
fds=$(ls /proc/$p/fd)
has_as_before() { [ "$(ls /proc/$p/fd)" = "$fds" ]; }
for ((lap = 1; lap <= 3; lap++)); do
	ok "lap $lap, away" bpmove --lazy $p $((lap % 2))
	ok "lap $lap, home" bpmove $p master
	within 30 "lap $lap: it has open what it had" has_as_before
done
stop

# on_its_way MIB: a program on n1, some of whose memory is still on n0
on_its_way() {
	local try
	for try in 1 2 3; do
		start wait "$1"
		ok 'to n0' bpmove $p 0
		bpmove --lazy $p 1 || bad "to n1: status $?"
		follows 1 && return
		stop
	done
	bad "$1 MiB were through before it could be looked at, three times"
	return 1
}
pager_killed() {
	bplab exec 1 pkill -9 -x bproc-pager
}
all_there() { ! follows 1; }

# -- daemons that end meanwhile are not missed; but the pager is, and what misses it is ended
if [ "$1" -ge 10 ] && on_its_way 512; then
	ok 'bpslave of n1 is killed' bplab restart-slave --kill 1
	ok 'bpslave of n0 is killed' bplab restart-slave --kill 0
	within 60 'all of it follows' all_there
	ok 'both are back' bplab wait -w 10 0 1
	ok 'and home' bpmove $p master
	within 30 'it goes on' said '^3 .* ok'
	stop
fi
if [ "$1" -ge 10 ] && on_its_way 512; then
	if pager_killed; then
		wait $p
		is 'it is ended when its pager was killed' $? 137
	else
		stop # all was there
	fi
fi

# -- while memory is on its way it is not dumped or moved; and a source that dies takes it along
for try in 1 2 3; do
	on_its_way 1024 || break
	# It may have been through before the dump began; not if it still is not.
	if bpsh 1 vmadump dump $p /dev/null 2>why; then dumped=1; else dumped=0; fi
	if follows 1 && [ $dumped = 1 ]; then bad 'it was dumped with pages missing'; fi
	if ! follows 1; then
		stop
		continue
	fi
	has 'no dump of it meanwhile' "$(cat why)" '*not all followed*'
	bplab kill 0
	wait $p
	is 'it is ended when its source has died' $? 137
	try=found
	break
done
[ "$try" = found ] || bad "1 GiB was through before it could be looked at, three times"
finish
