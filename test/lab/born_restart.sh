#!/bin/bash
# What was born on a node outlives the daemons here as there, and what has ended while
# one of them was away is noticed. 1 node.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

pid_of() { pgrep -f "$1" | head -n 1; }
gone() { ! pgrep -f "$1" >/dev/null; }
parent_is() { [ "$(ps -o ppid= -p "$1" | tr -d ' ')" = "$2" ]; }
listed() { bpstat -p | grep -q "^$1[^0-9]"; }
all_there() { parent_is "$b" "$sh" && listed "$b" && alive "$sh" && listed "$sh"; }

bpsh 0 sh -c 'sleep 1000 & sleep 1001 & sleep 1002 & wait' &
job=$!
within 5 'born' pgrep -f '^sleep 1002$'
a=$(pid_of '^sleep 1000$') b=$(pid_of '^sleep 1001$') sh=$(pgrep -P $job)

ok "the node's slave starts again" bplab restart-slave 0
within 5 'all are there' all_there
within 5 'the first too' parent_is "$a" "$sh"
sleep 1
ok 'and stay' all_there

bplab stop-slave 0
bplab exec 0 sh -c 'kill $(pgrep -f "^sleep 1000$")'
bplab start-slave 0
within 5 'what has ended in the meantime is gone here' dead "$a"
within 5 'the others are there' all_there

ok 'the master starts again' bplab restart-master
within 5 'all are known to it' all_there
sleep 1
ok 'and stay' all_there

ok "the front end's slave starts again" bplab restart-slave master
within 5 'all are known' all_there
bpsh 0 sh -c 'sleep 1003 & wait' &
within 5 'a birth after it' pgrep -f '^sleep 1003$'

ok 'kill' kill "$b"
within 5 'it has ended' dead "$b"
within 5 'there too' sh -c '! bplab exec 0 pgrep -f "^sleep 1001$"'
bplab exec 0 sh -c 'kill $(pgrep -f "^sleep 100[23]$")'
wait
within 5 'no ghost is left' sh -c '! pgrep -f "^sleep 100"'
within 5 'no entry is left' sh -c '[ "$(bpstat -p | grep -c "^[0-9]")" -eq 0 ]'
is 'none in ps' "$(ps -eo pid= | awk '$1 >= 65536' | wc -l)" 0
finish
