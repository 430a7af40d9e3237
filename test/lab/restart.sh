#!/bin/bash
# Daemons come and go; what runs on the nodes does not. 2 nodes, pingtimeout 3.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

work() { # a process on a node that counts into a file
	bpsh -n "$1" sh -c "i=0; while :; do i=\$((i+1)); echo \$i >$t/count.$1; sleep 0.05; done" &
	job=$!
	within 5 "work runs on node $1" test -s "$t/count.$1"
}
goes_on() { # NODE TEXT
	local a b
	a=$(cat "$t/count.$1"); sleep 0.5; b=$(cat "$t/count.$1")
	ok "$2" test "$b" != "$a"
}

work 0
ok 'restart-slave' bplab restart-slave 0
within 10 'up again' node_is 0 up
goes_on 0 'the process goes on over a restart of its slave'
ok 'restart-slave --kill' bplab restart-slave --kill 0
within 10 'up again' node_is 0 up
goes_on 0 'the process goes on over a kill of its slave'
ok 'restart-slave master' bplab restart-slave master
within 10 'the front end answers' bpstat
goes_on 0 'the process goes on over a restart of the front end'\''s slave'
bpctl -S 1 -m 0111
ok 'restart-master --kill' bplab restart-master --kill
within 15 'up again' node_is 0 up
within 15 'up again' node_is 1 up
goes_on 0 'the process goes on over a kill of the master'
has 'a mode that was set is as it was' "$(bpstat -l 1)" '*---x--x--x*'
ok 'restart-master' bplab restart-master
within 15 'up again' node_is 0 up
goes_on 0 'the process goes on over a restart of the master'
ok 'it is still a process here' alive $job
kill -TERM $job
wait $job
is 'its end is seen' $? 143
is 'new ones start' "$(bpsh 1 hostname)" n1

# Who has no link to the master knows what was; it says so, and waits for what is
ok 'stop-master --kill' bplab stop-master --kill
has 'what is shown is old' "$(bpstat 2>&1 >/dev/null)" 'bpstat: no link to the master*'
is 'home is not reachable' "$(bpstat -s master 2>/dev/null)" unreachable
has 'nobody waits for old news' "$(bplab wait -w 0.5 2>&1)" '*no link to the master*'
ok 'start-master' bplab start-master
ok 'all nodes are waited for' bplab wait
is 'and work at once' "$(bpsh 0,1 hostname | sort | xargs)" 'n0 n1'
is 'nothing is old' "$(bpstat -s master 2>&1)" up

# A clean end
for who in 'stop-slave 1' 'stop-slave master' stop-master; do
	# shellcheck disable=SC2086
	ok "$who" bplab $who
done
ok 'stop-slave 0' bplab stop-slave 0
is 'no daemon is left' "$(bplab status | grep -c bp)" 0
ok 'start-master' bplab start-master
for who in master 0 1; do ok "start-slave $who" bplab start-slave $who; done
within 15 'all again' bplab wait -w 1 0 1
is 'and they work' "$(bpsh 0,1 hostname | sort | tr '\n' ' ')" 'n0 n1 '
finish
