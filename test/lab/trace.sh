#!/bin/bash
# bpstrace and bpgdb, on the front end, look at the real process wherever it is. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
for tool in strace gdb gdbserver; do
	command -v $tool >/dev/null || { echo "skipped: no $tool here"; exit 77; }
done

child_of() { pgrep -P "$1"; }
runs_on() { [ "$(bpps -H -o node "$1" | xargs)" = "$2" ]; }
sleeps() { bpps -H -o stat "$1" | grep -q '^S'; }
written() { [ "$(grep -c 'write(1, "line' "$1")" -ge 3 ]; }
not_traced() { bplab exec "$1" sh -c "grep -q '^TracerPid:.0' /proc/\$(pgrep -n $2)/status"; }

# 1 strace: what it writes; ^C lets it go on
bpsh 0 sh -c 'while :; do echo line; sleep 0.1; done' >"$t/lines" &
job=$!
within 10 'it writes' test -s "$t/lines"
p=$(child_of $job)
env --default-signal=INT bpstrace "$p" -e trace=write 2>"$t/trace" &
within 20 'its writes are shown' written "$t/trace"
tracer=$(pgrep -f "^strace -e trace=write -p $p")
is 'strace is where it is' "$(bpps -H -o node "$tracer" | xargs)" 0
kill -INT "$tracer"
within 20 'strace has ended' dead "$tracer"
has 'it has let go' "$(cat "$t/trace")" "*$p detached*"
lines=$(wc -l <"$t/lines")
more() { [ "$(wc -l <"$t/lines")" -gt "$lines" ]; }
within 10 'the process goes on' more
kill "$p"
wait $job

# 2 gdb: frames of a program that came by a move, by its names
mkfifo "$t/in"
for kind in dynamic static; do
	"$LAB_PROGRAMS/hop_$kind" 1 5 0 5 <"$t/in" >"$t/out" 2>"$t/err" &
	p=$!
	exec 5>"$t/in"
	within 10 "$kind: on its node" runs_on $p 1
	within 10 "$kind: it reads" sleeps $p
	bt=$(bpgdb --batch -ex bt $p 2>&1)
	has "$kind: frames" "$bt" '*copy (left=5)*main (*'
	within 10 "$kind: it goes on" sleeps $p
	# What is traced is not moved, and goes on where it is.
	within 10 "$kind: let go of" not_traced 1 hop
	bpstrace $p -e trace=none 2>"$t/trace.$kind" &
	within 10 "$kind: traced" grep -q attached "$t/trace.$kind"
	echo 1234 >&5
	within 10 "$kind: it has tried to go" dead $p
	wait $p
	is "$kind: it could not" $? 2
	is "$kind: why" "$(cat "$t/err")" 'hop: to 0: it is being traced by a debugger'
	exec 5>&-
done

# 3 what gdb does to it is done, and its parent sees it
bpsh 0 sleep 1000 2>"$t/err" &
job=$!
within 10 'one more' pgrep -f '^sleep 1000$'
bpgdb "$(pgrep -f '^sleep 1000$')" --batch -ex kill >/dev/null 2>&1
wait $job
is 'killed by gdb' "$(cat "$t/err")" '0: Killed'

# 4 at home; nobody; somebody else's
sleep 1001 &
p=$!
has 'of the front end' "$(bpgdb --batch -ex bt $p 2>&1)" '*nanosleep*'
timeout -s INT 1 bpstrace $p 2>"$t/trace"
has 'strace there' "$(cat "$t/trace")" "*$p attached*$p detached*"
ok 'it goes on' kill $p
wait $p
status 'gdb on nobody' 1 bpgdb 4000000
status 'strace on nobody' 1 bpstrace 4000000
bpctl -S 0 -m 111
bpsh 0 sleep 1002 &
job=$!
within 10 'the last one' pgrep -f '^sleep 1002$'
p=$(pgrep -f '^sleep 1002$')
user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
status 'strace on a process of root' 1 user bpstrace "$p"
has 'and why' "$(user bpstrace "$p" 2>&1)" '*not permitted*'
has 'gdb likewise' "$(user bpgdb "$p" 2>&1)" "bpgdb: $p on node 0: Permission denied"
ok 'it has not been touched' sleeps "$p"

# 5 a terminal: ^C stops the process, not gdb or what it speaks through
if command -v python3 >/dev/null; then
	cat >"$t/driver.py" <<-'END'
	import os, pty, select, sys, time
	pid, fd = pty.fork()
	if pid == 0:
	    os.execvp("bpgdb", ["bpgdb", sys.argv[1], "-q", "-nx", "-iex", "set pagination off"])
	seen = b""
	def expect(what):
	    global seen
	    end = time.time() + 60
	    while what not in seen:
	        if time.time() > end or not select.select([fd], [], [], 1 + end - time.time())[0]:
	            sys.exit("waited for %s, saw %s" % (what, seen))
	        seen += os.read(fd, 4096)
	    seen = seen[seen.index(what) + len(what):]
	expect(b"(gdb) ")
	os.write(fd, b"continue\n"); expect(b"Continuing."); time.sleep(0.5)
	os.write(fd, b"\x03"); expect(b"SIGINT"); expect(b"(gdb) ")
	os.write(fd, b"bt\n"); expect(b"nanosleep"); expect(b"(gdb) ")
	os.write(fd, b"detach\n"); expect(b"detached"); expect(b"(gdb) ")
	os.write(fd, b"quit\n")
	try:
	    while os.read(fd, 4096): pass
	except OSError: pass
	sys.exit(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
	END
	ok '^C' python3 "$t/driver.py" "$p"
	within 10 'it goes on' sleeps "$p"
fi
kill "$p"
wait $job
finish
