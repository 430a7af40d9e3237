#!/bin/bash
# Ordinary tools of the front end see and signal what runs on nodes; bpps shows what it
# uses up there. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck disable=SC2034
PS_FORMAT=

one() { pgrep -f "$1" | head -n 1; }
none() { ! pgrep -f "$1" >/dev/null; }
on_node() { bplab exec "$1" pgrep -f "$2" >/dev/null; }
gone_there() { ! on_node "$@"; }

bpsh 0 sh -c 'sleep 2000 & sleep 2001 & wait' &
family=$!
bpsh 1 sh -c 'while :; do :; done' &
busy=$!
within 20 'a child in ps' pgrep -f '^sleep 2000$'
within 20 'the other' pgrep -f '^sleep 2001$'
within 20 'the busy one' sh -c 'bpstat -p | grep -q "[[:space:]]1$"'
a=$(one '^sleep 2000$') b=$(one '^sleep 2001$')
sh=$(pgrep -P $family) loop=$(pgrep -P $busy)

# 1 the tools
has 'ps -ef' "$(ps -ef | tr -s ' ' | grep " $a .*[s]leep")" "root $a $sh *sleep 2000"
has 'pstree' "$(pstree -p $family)" "*sh($sh)*sleep($a)*sleep($b)*"
has 'top' "$(top -b -n 1 -w 200 | tr -s ' ' | grep " sleep" | sort | tr '\n' ' ')" "*$a root *$b root *"
is 'pgrep -P' "$(pgrep -P "$sh" | sort -n | xargs)" "$(printf '%s\n' "$a" "$b" | sort -n | xargs)"
has 'pidof' " $(pidof sleep) " "* $a *"
is 'ps of a list' "$(ps -o comm= -p "$a,$loop" | xargs)" 'sh sleep'
ok 'kill -0' kill -0 "$a"
ok 'pkill -STOP' pkill -STOP -f '^sleep 2000$'
within 10 'it is stopped' sh -c "bpps -H -o stat $a | grep -q T"
ok 'killall -CONT' killall -CONT sleep
within 10 'it goes on' sh -c "bpps -H -o stat $a | grep -q S"
ok 'pkill' pkill -f '^sleep 2000$'
within 10 'gone there' gone_there 0 '^sleep 2000$'
within 10 'gone here' none '^sleep 2000$'

# 2 bpps
line=$(bpps -H -o pid,ppid,pgid,node,user,uid,comm,args "$b" | xargs)
is 'a process' "$line" "$b $sh $(ps -o pgid= -p "$b" | xargs) 0 root 0 sleep sleep 2001"
is 'memory' "$(bpps -H -o vsz,rss "$b" | xargs)" \
	"$(bplab exec 0 ps -C sleep -o vsz=,rss=,args= | sed -n 's/ sleep 2001$//p' | xargs)"
computes() { [ "$(bpps -H -o cputimems "$loop")" -gt 300 ]; }
within 30 'processor time' computes
is 'that of its ghost is none' "$(ps -o time= -p "$loop")" 00:00:00
is 'on which nodes' "$(bpps -a -o pid=,node= | sort -n | xargs)" \
	"$(bpstat -p | sed 1d | sort -n | xargs)"
is 'of one node' "$(bpps -a -H -o pid -n 1 | xargs)" "$loop"
is 'of nobody' "$(bpps -H -u nobody)" ''
has 'the front end, with what is really there' "$(bpps -H -o pid,node -n -1 | xargs)" "*$family -1*"
ok 'and not what stands in' sh -c "! bpps -H -o pid -n -1 | grep -qw $b"
is 'on a node' "$(bplab exec 1 bpps -H -o pid,node,args -n 0 "$b" | xargs)" "$b 0 [sleep]"
status 'a process that is not' 1 bpps -H 4000000
kill "$b" "$loop"
wait $family $busy

# 3 more than a page
bpsh 0 sh -c 'i=0; while [ $i -lt 300 ]; do sleep 2002 & i=$((i + 1)); done; wait' &
job=$!
count() { [ "$(bpps -a -H -o pid -n 0 | sort -u | wc -l)" -eq 301 ]; }
within 30 'three hundred' count
is 'each once, in order' "$(bpps -a -H -o pid -n 0 | md5sum)" "$(bpps -a -H -o pid -n 0 | sort -nu | md5sum)"
within 30 'in ps' sh -c '[ "$(pgrep -cf "^sleep 2002$")" -eq 300 ]'
ok 'all killed by name' pkill -f '^sleep 2002$'
wait $job
within 20 'none there' gone_there 0 '^sleep 2002$'
within 20 'none here' none '^sleep 2002$'

# 4 a node that cannot be asked
bpsh 0 sleep 2003 &
job=$!
within 10 'one more' sh -c 'bpps -H -o comm -n 0 | grep -q sleep'
bplab cut 1
within 15 'unreachable' node_is 1 unreachable
out=$(bpps -a -H -o args 2>"$t/err")
is 'the others are shown' "$out" 'sleep 2003'
has 'and which is not' "$(cat "$t/err")" 'bpps: node 1 is not connected'
status 'status' 1 bpps -aH
bplab heal 1
within 15 'back' node_is 1 up
status 'status then' 0 bpps -aH
kill "$(one '^sleep 2003$')"
wait $job
finish
