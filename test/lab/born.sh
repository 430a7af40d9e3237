#!/bin/bash
# What is born on a node is a process of the front end too: born.sh [WORD of the log
# that says which event source is in use]. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck disable=SC2034
PS_FORMAT=

pid_of() { pgrep -f "$1" | head -n 1; }
gone() { ! pgrep -f "$1" >/dev/null; }
ppid_of() { ps -o ppid= -p "$1" | tr -d ' '; }
on_node() { bplab exec 0 pgrep -f "$1" >/dev/null; }
gone_there() { ! on_node "$1"; }
# A ghost that is shown as stopped is in its tracer's hands: ps says t
is_state() { [ "$(ps -o stat= -p "$1" | cut -c 1 | tr t T)" = "$2" ]; }

if [ -n "${1:-}" ]; then
	within 5 "event source: $1" bplab exec 0 sh -c "cat $LAB_TMP/log/bpslave.n0 | grep -q '$1'"
fi

# 1 children in ps and pstree, under the same parent, by the number they have on the node
bpsh 0 sh -c 'sleep 1000 & echo $! >'"$t/a"'; sleep 1001 & echo $! >'"$t/b"'; wait; echo $? >'"$t/st" &
job=$!
within 5 'first child in ps' pgrep -f '^sleep 1000$'
within 5 'second child in ps' pgrep -f '^sleep 1001$'
a=$(pid_of '^sleep 1000$') b=$(pid_of '^sleep 1001$') sh=$(pgrep -P $job)
is 'number of the first' "$a" "$(cat "$t/a")"
is 'number of the second' "$b" "$(cat "$t/b")"
is 'parent of the first' "$(ppid_of "$a")" "$sh"
is 'parent of the second' "$(ppid_of "$b")" "$sh"
is 'its name' "$(ps -o comm= -p "$a")" sleep
is 'its arguments' "$(ps -o args= -p "$a")" 'sleep 1000'
has 'in pstree' "$(pstree -p $job)" "*sh($sh)*sleep($a)*sleep($b)*"
has 'in bpstat -p' "$(bpstat -p | tr -s ' \t\n' ' ')" "*$a 0*$b 0*"
is 'group' "$(ps -o pgid= -p "$a" | tr -d ' ')" "$(ps -o pgid= -p "$sh" | tr -d ' ')"

# 2 signals
ok 'kill' kill "$b"
within 3 'the real one is gone' gone_there '^sleep 1001$'
within 3 'its ghost too' dead "$b"
ok 'stop' kill -STOP "$a"
within 3 'its ghost is stopped' is_state "$a" T
within 3 'the real one is stopped' bplab exec 0 sh -c 'ps -C sleep -o stat= | grep -q T'
ok 'continue' kill -CONT "$a"
within 3 'its ghost goes on' is_state "$a" S
ok 'kill -KILL' kill -KILL "$a"
within 3 'the shell there has seen it' test -s "$t/st"
wait $job
status 'ended well' 0 true

# 3 what happens on the node: a stop, exec, end
bpsh 0 sh -c '(sleep 1; exec sleep 1010) & child=$!; (kill -STOP $child; sleep 3; kill -CONT $child) & wait' &
job=$!
within 5 'a shell there' pgrep -P $job
sh=$(pgrep -P $job)
both() { [ "$(pgrep -P "$sh" | wc -l)" -eq 2 ]; }
within 3 'and its children' both
child=$(pgrep -P "$sh" | head -n 1)
within 3 'a stop there is one here' is_state "$child" T
within 5 'so is the going on' is_state "$child" S
within 5 'exec has given it its new name' pgrep -f '^sleep 1010$'
is 'under the same number' "$(pid_of '^sleep 1010$')" "$child"
kill "$child"
wait $job

# 4 a whole family, of which the middle ends first
bpsh 0 sh -c 'sh -c "sleep 1020 & sleep 1021 & exit 0"; exec sleep 1022' &
job=$!
within 5 'a grandchild' pgrep -f '^sleep 1020$'
within 5 'the other' pgrep -f '^sleep 1021$'
within 5 'the shell has exec'"'"'d' pgrep -f '^sleep 1022$'
g=$(pid_of '^sleep 1020$')
# of init, or, if its parent was too short-lived to be heard of, of the keeper, as of bpinit there
has 'an orphan here as there' "$(ps -o args= -p "$(ppid_of "$g")")" '*bp*'
ok 'not of the shell' test "$(ppid_of "$g")" != "$(pgrep -P $job)"
kill "$g" "$(pid_of '^sleep 1021$')" "$(pid_of '^sleep 1022$')"
wait $job
within 3 'gone' gone '^sleep 102[0-2]$'
within 3 'gone there' gone_there '^sleep 102[0-2]$'

# 5 a zombie is one here as well, until it is waited for
cat >"$t/zombie.sh" <<-'END'
	sleep 0.5 & exec sleep 3
END
bpsh 0 sh "$t/zombie.sh" &
job=$!
within 4 'a zombie' sh -c "ps -eo stat,comm | grep -q '^Z.*sleep'"
wait $job
within 3 'none after its parent has ended' sh -c "! ps -eo stat,comm | grep -q '^Z.*sleep'"

# Whoever they fall to waits for them when its turn comes.
none_in_ps() { [ -z "$(ps -eo pid= | awk '$1 >= 65536')" ]; }

# 6 many short ones leave nothing behind
bpsh 0,1 sh -c 'i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i + 1)); done'
within 5 'no ghost is left' sh -c '[ "$(bpstat -p | grep -c "^[0-9]")" -eq 0 ]'
within 5 'in ps none either' none_in_ps
ok 'two thousand were born' sh -c '[ "$(bplab exec 0 cat /proc/sys/kernel/ns_last_pid)" -gt 0 ]'

# 7 the books agree with many that stay
bpsh 0 sh -c 'i=0; while [ $i -lt 200 ]; do sleep 1030 & i=$((i + 1)); done; wait' &
job=$!
there() { bplab exec 0 pgrep -cf '^sleep 1030$'; }
here() { pgrep -cf '^sleep 1030$'; }
agree() { [ "$(here)" -eq 200 ] && [ "$(there)" -eq 200 ] &&
	[ "$(bpstat -p | grep -c '^[0-9]')" -eq 201 ]; }
within 10 'two hundred, in ps here, in ps there, in bpstat' agree
pgrep -f '^sleep 1030$' | xargs kill
wait $job
within 5 'and none' sh -c '[ "$(bpstat -p | grep -c "^[0-9]")" -eq 0 ]'
within 5 'none in ps' none_in_ps
finish
