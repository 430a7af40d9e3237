#!/bin/bash
# Numbers of processes that are born on nodes, when a node uses all of its own again and
# again: each is of its slot, none is used twice at a time, and the front end has a ghost
# of every one that stays. 2 nodes, with -o pidslot=1024.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

slot() { echo $((65536 + 1024 * $1)); }
said() { [ "$(wc -w <"$t/out.$1")" -eq 5 ]; }
ghosts() { pgrep -g "$1" | wc -l; }
all_there() { [ "$(ghosts "$1")" -eq "$2" ]; }

# Helpers of the daemons that begin below would keep numbers for good.
until n=$(pgrep -c bpdata); sleep 0.5; [ "$n" = "$(pgrep -c bpdata)" ]; do :; done

# Numbers of the node's that are taken at home: its ghosts wait for them, nobody else does.
echo $(($(slot 0) + 4)) >/proc/sys/kernel/ns_last_pid
for i in 1 2 3 4 5 6 7 8; do sleep 6 & taken[i]=$!; done
echo 400 >/proc/sys/kernel/ns_last_pid # no others: a daemon's helper would keep one for good
ok 'numbers of the node are taken here' test "${taken[1]}" -ge "$(slot 0)"
bpsh 0 sh -c 'i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i + 1)); done; echo made; wait' >"$t/made" &
job=$!
within 20 'it has made its children without them' grep -q made "$t/made"
born_here() { [ "$(pgrep -P "$(pgrep -P $job)" -cf '^sleep 1000$')" -eq 20 ]; }
ok 'some are taken still' kill -0 "${taken[8]}"
ok 'so some ghosts are not made' sh -c '! [ "$(pgrep -cf "^sleep 1000$")" -eq 20 ]'
within 30 'all are here in the end, under their parent' born_here
ok 'also those' sh -c "ps -o args= -p ${taken[8]} | grep -q 'sleep 1000'"
pkill -f '^sleep 1000$'
wait $job
unset job

for n in 0 1; do
	setsid bpsh $n "$LAB_PROGRAMS/storm_$1" 100 8000 >"$t/out.$n" &
	job[n]=$!
done
for n in 0 1; do
	within 90 "node $n: eight thousand" said $n
	read -r low high laps rate stayed <"$t/out.$n"
	echo "node $n: $low to $high, $laps laps, $rate forks a second"
	ok "node $n: from the slot's beginning" test "$low" -ge "$(slot $n)"
	ok "node $n: not beyond its end" test "$high" -lt "$(slot $((n + 1)))"
	ok "node $n: more than five laps" test "$laps" -gt 5
	group=$(ps -o pgid= -p ${job[n]} | tr -d ' ')
	# bpsh, the storm, and those that stay
	within 30 "node $n: all that stay are here" all_there "$group" $((stayed + 2))
	is "node $n: by the same numbers" "$(pgrep -g "$group" | awk '$1 >= 65536' | md5sum)" \
		"$(bpps -a -H -o pid -n $n | tr -d ' ' | awk '$1 >= 65536' | md5sum)"
	# bpsh would pass it on: the storm alone ignores it, and is told by its children
	pkill -USR1 -g "$group" "storm_$1"
	wait ${job[n]}
	is "node $n: each was waited for" $? 0
	within 20 "node $n: none is left" all_there "$group" 0
done
within 20 'bpstat has none' sh -c '[ "$(bpstat -p | grep -c "^[0-9]")" -eq 0 ]'
is 'in ps none either' "$(ps -eo pid=,args= | awk '$1 >= 65536')" ''
ok 'no number was lost to the cluster' sh -c '! cat "$LAB_TMP"/log/* | grep "ran out of the slot"'
finish
