#!/usr/bin/env bash
# Line by line of doc/image.md, "What goes along": what a process has set of itself is so after a
# restore. $1 vmadump, $2 the directory of the test programs.
# shellcheck source=/dev/null
. "$(dirname "$(readlink -f "$0")")/vmadump_lib.sh"
bin=$2
self=$(readlink -f "$0")

# A root directory of its own, with /proc in it: it can be entered again. What it has open that is
# not below it no path leads to, so it writes to a pipe.
try_rooted() {
	mkdir -p r/proc r/dev && mknod r/dev/null c 1 3
	mount -t proc proc r/proc && cp "$1" r/state || return
	: >rooted
	mkfifo out
	cat out >>rooted &
	(close_fds; exec chroot r /state </dev/null >out 2>&1) &
	pid=$!
	lines rooted 5 || return
	"$vmadump" dump --kill "$pid" rooted.image || { fail 'root: dump'; return; }
	gone "$pid"
	"$vmadump" info rooted.image | grep -q "^root: $PWD/r$" || fail 'root: info'
	"$vmadump" check rooted.image || fail 'root: check'
	(close_fds; exec "$vmadump" restore rooted.image </dev/null >>rooted 2>said) ||
		fail "root: $(cat said)"
	cmp rooted want || fail 'root: what it has written'
	umount r/proc
	mv r r3
	(close_fds; exec "$vmadump" restore rooted.image </dev/null 2>said) && fail 'a root that is gone'
	grep -q "its root directory $PWD/r: " said || fail "root: it says: $(cat said)"
}
if [ "${3:-}" = rooted ]; then
	cp "$4" want
	try_rooted "$bin/test_vmadump_state_static"
	umount -l r/proc r3/proc 2>/dev/null # nothing of it may be there when all is removed
	exit
fi

{ for _ in $(seq 15); do seq 0 9; done; echo 'state ok'; } >want
carried state 5 want "$bin/test_vmadump_state"
carried filter 5 want "$bin/test_vmadump_state" filter
"$vmadump" info filter.image >said
grep -q '^seccomp: filter, filters 2$' said || fail "info: $(grep seccomp said)"
carried strict 5 want "$bin/test_vmadump_state" strict

# A filter of threads, all alike; and one that a thread has for itself.
if command -v python3 >/dev/null; then
	filter='import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
allow = ctypes.create_string_buffer(b"\x06\x00\x00\x00\x00\x00\xff\x7f", 8)
prog = ctypes.create_string_buffer(16)
prog[0:2] = b"\x01\x00"
prog[8:16] = ctypes.addressof(allow).to_bytes(8, "little")
def put(flags):
    if libc.syscall(317, 1, flags, prog) != 0:
        sys.exit(2)
end = threading.Event()
'
	seq 0 9 >want2
	echo ok >>want2
	carried threads 2 want2 "$(command -v python3)" -u -c "$filter"'
t = [threading.Thread(target=end.wait) for i in range(3)]
[x.start() for x in t]
put(1)
for i in range(10):
    print(i)
    time.sleep(0.1)
end.set()
print("ok" if open("/proc/self/status").read().count("Seccomp_filters:\t1\n") else "wrong")'
	# Of each thread: the first has none, the second one, the third two; or one more each.
	each='
def status(key):
    return " ".join(l.split()[1] for l in open("/proc/thread-self/status") if l.startswith(key))
def say():
    got.append((threading.current_thread().name, status("Seccomp_filters"), status("NoNewPrivs")))
got = []
go, said = threading.Event(), threading.Barrier(3)
def alone(n):
    libc.prctl(38, 1, 0, 0, 0)
    for i in range(n):
        put(0)
    ready.wait()
    go.wait()
    say()
    said.wait()
ready = threading.Barrier(3)
t = [threading.Thread(target=alone, args=(n,), name="t%d" % n) for n in (1, 2)]
[x.start() for x in t]
ready.wait()
for i in range(10):
    print(i)
    time.sleep(0.1)
go.set()
say()
said.wait()
[x.join() for x in t]
print(sorted(got))'
	{ seq 0 9 && echo "[('MainThread', '0', '0'), ('t1', '1', '1'), ('t2', '2', '1')]"; } >want3
	carried each 2 want3 "$(command -v python3)" -u -c "${filter/libc.prctl*0)/}$each"
	"$vmadump" info each.image | grep -q '^seccomp: of each thread its own$' || fail 'info: each'
	{ seq 0 9 && echo "[('MainThread', '1', '1'), ('t1', '2', '1'), ('t2', '3', '1')]"; } >want4
	carried above 2 want4 "$(command -v python3)" -u -c "$filter
put(1)$each"

	# Who descends from it has more.
	# shellcheck disable=SC2034 # of carried()
	dump_flags=(-t)
	{ seq 0 9 && echo '1 2'; } >want5
	carried tree 2 want5 "$(command -v python3)" -u -c "$filter"'
def has():
    return [l.split()[1] for l in open("/proc/self/status") if l.startswith("Seccomp_filters")][0]
put(0)
r, w = os.pipe()
if os.fork() == 0:
    put(0)
    os.read(r, 1)
    os.write(w, has().encode())
    os._exit(0)
for i in range(10):
    print(i)
    time.sleep(0.1)
os.write(w, b".")
os.wait()
print(has(), os.read(r, 9).decode())'
	# shellcheck disable=SC2034
	dump_flags=()
fi

# A thread that may not call what a dump calls in it: root suspends its filter, nobody else can.
as=()
[ "$(id -u)" -eq 0 ] && as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
start killer "${as[@]}" perl -e 'use threads; $| = 1;
	my $f = pack("SCCL" x 4, 0x20, 0, 0, 0, 0x15, 0, 1, 131 # sigaltstack()
		, 6, 0, 0, 0x80000000, 6, 0, 0, 0x7fff0000);
	my $t = async { my $p = pack("Sx6P", 4, $f); syscall(157, 38, 1, 0, 0, 0);
		syscall(157, 22, 2, $p) == 0 or die; print "ready\n"; sleep 60 };
	sleep 60'
cp "$vmadump" v
chmod 755 . v
if lines killer 1; then
	"${as[@]}" ./v dump "$pid" /dev/null 2>said && fail 'a filter that kills is not refused'
	grep -q 'has a seccomp filter of its own' said || fail "a filter that kills: $(cat said)"
	[ "$(id -u)" -ne 0 ] || "$vmadump" dump "$pid" killer.image || fail 'a filter that kills: dump'
	kill -9 "$pid" || fail 'it was killed by its own filter'
	gone "$pid"
fi

if unshare -m true 2>/dev/null; then
	unshare -m "$self" "$1" "$2" rooted "$PWD/want" || fail 'root directory'
fi

# In its cgroup, if that is there; named in any case.
for group in memory pids .; do
	group=/sys/fs/cgroup/$group/vmadump-test-$$
	mkdir "$group" 2>/dev/null && break
done
if [ -d "$group" ] && [ -e "$group/cgroup.procs" ]; then
	start grouped "$bin/test_vmadump_state"
	echo "$pid" >"$group/cgroup.procs"
	lines grouped 3
	"$vmadump" dump --kill "$pid" grouped.image || fail 'cgroup: dump'
	gone "$pid"
	"$vmadump" info grouped.image | grep -q "^cgroup: .*/vmadump-test-$$\$" || fail 'cgroup: info'
	(close_fds; exec "$vmadump" restore --detach grouped.image </dev/null >again 2>said) || fail "$(cat said)"
	grep -q "/vmadump-test-$$\$" "/proc/$(cat again)/cgroup" || fail "cgroup: $(cat "/proc/$(cat again)/cgroup")"
	kill -9 "$(cat again)"
	for _ in $(seq 100); do
		rmdir "$group" 2>/dev/null && break
		sleep 0.1
	done
fi

# Its terminal, opened once more as bash does it: whoever restores it brings his.
if command -v python3 >/dev/null; then
	cat >terminal.py <<-'END'
	import fcntl, os, pty, select, signal, sys
	def run(*argv):
	    pid, fd = pty.fork()
	    if pid == 0:
	        os.execvp(argv[0], argv)
	    return pid, fd
	def until(fd, what):
	    got = b""
	    while what not in got:
	        if not select.select([fd], [], [], 20)[0]:
	            sys.exit("no %r: %r" % (what, got))
	        got += os.read(fd, 1000)
	vmadump = sys.argv[1]
	script = 'stty -echo; exec 200<>/dev/tty 201<>$(tty) 202>&1; echo ready; read x; ' \
	         'echo 0 >&200; echo 1 >&201; echo 2 >&202; echo "got $x" >/dev/tty; read y <&200; echo "end $y"'
	pid, fd = run("bash", "-c", script)
	until(fd, b"ready")
	if os.system("%s dump --kill %d tty.image" % (vmadump, pid)) != 0:
	    sys.exit("dump")
	os.waitpid(pid, 0)
	os.close(fd)
	pid, fd = run(vmadump, "restore", "tty.image")
	os.write(fd, b"hello\n")
	until(fd, b"0\r\n1\r\n2\r\ngot hello")
	os.write(fd, b"there\n")
	until(fd, b"end there")
	if os.waitpid(pid, 0)[1] != 0:
	    sys.exit("it ended otherwise")
	END
	(close_fds; exec python3 terminal.py "$vmadump") || fail 'terminal'
fi
:
