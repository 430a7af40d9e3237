#!/bin/bash
# bplab by itself, with bare labs (no daemons): exit statuses, what a lab sees,
# the network, and that nothing is left behind however it ends.
# bplab.sh BUILD
here=$(dirname "$(readlink -f "$0")")
bplab=$1/bin/bplab
LAB_TMP=$(mktemp -d "${TMPDIR:-/tmp}/bproc-test.XXXXXX") || exit 1
trap 'rm -rf "$LAB_TMP"' EXIT
# shellcheck source=test/lab/lib.sh
. "$here/lib.sh"

if ! "$bplab" --bare -n 1 -- true; then
	echo "skipped: no lab can be made here (see above)"
	exit 77
fi
# All processes of the labs of this test have this, and nothing else has.
mark=BPROC_TEST_ID=$$.$RANDOM
marked() { grep -laz "^$mark$" /proc/[0-9]*/environ 2>/dev/null; }
none_marked() { [ -z "$(marked)" ]; }
lab() { env "$mark" timeout 20 "$bplab" --bare "$@" 2>>"$t/err"; }
mounts() { wc -l </proc/self/mountinfo; }
mounts_before=$(mounts)
run_before=$(ls /run)
links_before=$(ls /sys/class/net)

# Exit statuses
status 'exit status of the command' 3 lab -n 1 -- sh -c 'exit 3'
status '128 + signal' 143 lab -n 1 -- sh -c 'kill -TERM $$'
status 'no such command' 127 lab -n 1 -- /no/such/command
status 'not executable' 126 lab -n 1 -- /etc/passwd
status 'a bad option' 125 lab --nonsense
status 'no nodes' 125 lab -n 0 -- true
status 'too many nodes' 125 lab -n 100000 -- true
status 'a bad line for the configuration' 125 lab -o nonsense -- true
status 'a subcommand outside a lab' 125 "$bplab" cut 0
status 'wait: no time' 125 "$bplab" wait -w x

# What the front end sees
is 'host name' "$(lab -n 1 -- hostname)" master
is 'processes' "$(lab -n 1 -- sh -c 'ls /proc | grep -c "^[0-9]"')" 4
is 'standard input' "$(echo text | lab -n 1 -- cat)" text
is 'much output' "$(lab -n 1 -- head -c 20000000 /dev/zero | wc -c)" 20000000
is 'working directory' "$(cd /usr && lab -n 1 -- pwd)" /usr
is 'arguments' "$(lab -n 1 -- printf '%s|' 'a b' '' "c'd")" "a b||c'd|"
has 'PATH' "$(lab -n 1 -- sh -c 'echo $PATH')" "$(dirname "$bplab"):*"
is 'a terminal' "$(lab -t -n 1 -- tty </dev/null | tr -d '\r')" /dev/pts/0
is 'files are the machine'\''s' "$(lab -n 1 -- sh -c "echo there >$t/file"; cat "$t/file")" there

# The nodes
is 'exec on a node' "$(lab -n 3 -- bplab exec 2 hostname)" n2
is 'exec: status' "$(lab -n 1 -- sh -c 'bplab exec 0 sh -c "exit 9"; echo $?')" 9
is 'exec: input and output' "$(echo abc | lab -n 1 -- bplab exec 0 cat)" abc
is 'no such node' "$(lab -n 1 -- sh -c 'bplab exec 1 true 2>&1')" 'bplab: n1: no such node in this lab'
is 'a user of the machine is one in the lab' "$(lab -n 1 -- bplab exec 0 id -u)" 0

cat >"$t/net.sh" <<'END'
# exit status 1: refused (it is there); 124: silence
knock() { timeout 1 bash -c ': </dev/tcp/10.77.1.1/9' 2>/dev/null; echo "knock $?"; }
knock
bplab cut 0; knock
bplab exec 0 cat /sys/class/net/eth0/carrier 2>/dev/null || echo 1
bplab heal 0; knock
bplab kill 0; bplab status | grep -c off
bplab kill 0 2>/dev/null || echo already off
bplab start 0; bplab exec 0 hostname; knock
bplab start 0 2>/dev/null || echo already on
END
is 'cut, heal, kill, start' "$(lab -n 2 -- bash "$t/net.sh" | tr '\n' ' ')" \
	'knock 1 knock 124 1 knock 1 1 already off n0 knock 1 already on '
is 'nodes reach each other' "$(lab -n 2 -- bplab exec 1 bash -c \
	'(exec 3<>/dev/tcp/10.77.1.1/9) 2>&1 | grep -c "connect:.*refused"')" 1

# Its ends
for sig in TERM INT HUP KILL; do
	env "$mark" "$bplab" --bare -n 3 -- sh -c "echo \$\$ >$t/pid; exec sleep 987" &
	pid=$!
	within 5 "a lab to be killed by $sig" test -s "$t/pid"
	ok 'its processes are seen' test "$(marked | wc -l)" -ge 6
	rm "$t/pid"
	kill -$sig $pid
	wait $pid 2>/dev/null
	got=$?
	is "status after $sig" $got $((128 + $(kill -l $sig)))
	within 3 "nothing runs after $sig" none_marked
done
start=$(date +%s%N)
lab -n 8 -- true
ms=$((($(date +%s%N) - start) / 1000000))
ok "a bare lab of 8 nodes in $ms ms" test $ms -lt 2000

is 'no mount is left' "$(mounts)" "$mounts_before"
is '/run is as before' "$(ls /run)" "$run_before"
is 'no interface is left' "$(ls /sys/class/net)" "$links_before"
within 3 'no process is left' none_marked

# An ordinary user
if [ "$(id -u)" -eq 0 ]; then
	as_user='setpriv --reuid 65534 --regid 65534 --clear-groups'
	if $as_user test -x "$bplab"; then
		is 'a lab of an ordinary user' "$(cd / && $as_user "$bplab" --bare -n 2 -- \
			sh -c 'id -u; bplab exec 1 hostname' | tr '\n' ' ')" '0 n1 '
	else
		echo "an ordinary user cannot reach $bplab: not tested"
	fi
fi
[ "$failures" -eq 0 ] || cat "$t/err"
finish
