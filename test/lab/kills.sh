#!/bin/bash
# A caller of kill() on a node waits for home, whatever dies meanwhile, and its signal
# comes once. kills.sh no: killfromnodes no leaves the filter out. 1 node.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

bash -c "trap 'echo x >>$t/got' USR1; touch $t/ready; while :; do sleep 0.05; done" &
to=$!
within 10 'a process here that counts' test -e "$t/ready"
filters() { bpsh 0 sed -n 's/^Seccomp:\t//p' /proc/self/status; }

if [ "${1:-}" = no ]; then
	status 'to what is not there' 1 bpsh 0 sh -c "kill -0 $to 2>/dev/null"
	status 'to its parent, which stands in there' 0 bpsh 0 sh -c 'kill -0 $PPID'
	is 'no filter' "$(filters)" 0
	kill $to
	finish
fi

# A process on the node that calls kill() when it is told; its end is noted
caller() {
	rm -f "$t/go" "$t/on" "$t/result" "$t/end"
	bpsh 0 sh -c "sh -c 'touch $t/on; until [ -e $t/go ]; do sleep 0.05; done
		kill -USR1 $to' & wait \$!; echo \$? >$t/result
		until [ -e $t/end ]; do sleep 0.05; done" &
	job=$!
	within 10 'a caller on the node' test -e "$t/on"
}
ends() {
	within 20 'the node works' bpsh 0 true
	touch "$t/end"
	wait $job
}
waits() { bplab exec 0 ps -eo wchan:40 | grep -q seccomp; }
waits_not() { ! waits; }
calls_in_vain() {
	ok 'the front end has no slave' bplab stop-slave master
	touch "$t/go"
	within 10 'the caller waits' waits
}
got() { [ "$(wc -l <"$t/got")" -eq "$1" ]; }
survives() { # SIGNALS by then, TEXT, COMMAND
	caller
	calls_in_vain
	ok "$2" "${@:3}"
	ok 'the caller waits still' waits
	ok 'the front end'\''s slave' bplab start-slave master
	within 30 'it goes on' test -s "$t/result"
	is 'with success' "$(cat "$t/result")" 0
	within 10 "signal $1" got "$1"
	ends
}

is 'the filter' "$(filters)" 2
caller
touch "$t/go"
within 10 'it goes on' test -s "$t/result"
within 10 'one signal' got 1
ends

survives 2 'the node'\''s slave is killed' bplab restart-slave --kill 0
survives 3 'the master is killed' bplab restart-master --kill

caller
calls_in_vain
pid=$(bplab exec 0 ps -eo pid,wchan:40 | awk '/seccomp/ {print $1}')
ok 'a caller that waits can be killed' bplab exec 0 kill -KILL "$pid"
within 10 'it waits no more' waits_not
within 10 'its parent sees its end' test -s "$t/result"
is 'its end' "$(cat "$t/result")" 137
ok 'the node'\''s slave is killed' bplab restart-slave --kill 0
ok 'the front end'\''s slave' bplab start-slave master
ends
sleep 0.5
ok 'nothing came twice' test "$(wc -l <"$t/got")" -le 4
kill $to
finish
