#!/bin/bash
# Processes that have ended when something breaks, with what they have written still on its way: their
# parents are told how, and not before all of that has come, where it is not lost with the slave
# that had it. 2 nodes, pingtimeout 3.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
seq 1 60000 >"$t/want" # more than a pipe takes, less than is taken on the way

told() { [ -n "$(cat "$t"/status[0-3])" ]; }
on() { [ "$(cat "$t"/err[0-3] | grep -c '^on$')" = 4 ]; }
gone() { [ -z "$(bplab exec 0 pgrep -f 'seq 1 6000[0]')" ]; }

# Four on n0 that have ended before anybody reads: COMMAND; then they are read
end_and() { # whole|part TEXT COMMAND...
	local how=$1 text=$2 i job=() wrong=
	shift 2
	rm -f "$t/read"
	for i in 0 1 2 3; do
		: >"$t/status$i"
		: >"$t/err$i"
		{ bpsh -n 0 sh -c 'echo on >&2; seq 1 60000; exit 7' 2>"$t/err$i"; echo $? >"$t/status$i"; } |
			{ until [ -e "$t/read" ]; do sleep 0.02; done; cat; } >"$t/out$i" &
		job[i]=$!
	done
	within 10 "$text: all of them are there" on
	sleep 0.4
	within 10 "$text: all of them have ended" gone
	told && wrong+=' told too early'
	"$@" || wrong+=" $*"
	[ "$how" = whole ] && told && wrong+=' told before its output'
	touch "$t/read"
	for i in 0 1 2 3; do
		timeout 20 tail --pid="${job[i]}" -f /dev/null || { wrong+=" $i hangs"; kill "${job[i]}"; }
		wait "${job[i]}"
		[ "$(cat "$t/status$i")" = 7 ] || wrong+=" $i: $(cat "$t/status$i" "$t/err$i")"
		cmp -s "$t/want" "$t/out$i" && continue
		[ "$how" = part ] && cmp -s -n "$(wc -c <"$t/out$i")" "$t/want" "$t/out$i" && continue
		wrong+=" $i: output is not right, $(wc -c <"$t/out$i") bytes"
	done
	is "$text: four ends" "$wrong" ''
	within 20 "$text: n0 is up" node_is 0 up
}
cut_for_a_moment() { bplab cut 0 && sleep 0.4 && bplab heal 0; }

end_and whole 'nothing breaks' true
end_and whole 'the master is killed' bplab restart-master --kill
end_and whole 'the master is started anew' bplab restart-master
end_and whole 'the link is cut' cut_for_a_moment
end_and part "the node's slave is killed" bplab restart-slave --kill 0
end_and part "the front end's slave is killed" bplab restart-slave --kill master
end_and whole 'and again nothing' true
finish
