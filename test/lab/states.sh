#!/bin/bash
# The node table as bpstat shows it, through the life of nodes. 3 nodes,
# pingtimeout 3.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

is 'all are up' "$(bpstat -s 0,1,2 | tr '\n' ' ')" 'up up up '
is 'addresses' "$(bpstat -a 0,1,2 | tr '\n' ' ')" '10.77.1.1 10.77.1.2 10.77.1.3 '
is 'numbers' "$(bpstat -n all | tr '\n' ' ')" '0 1 2 '
is 'total' "$(bpstat -t all)" 3
has 'long' "$(bpstat -l)" '*10.77.1.2*up*---x*root*'
has 'compact' "$(bpstat)" '*0-2*up*'
is 'only what is up' "$(bpstat -n allup | wc -l)" 3

# States set by hand
ok 'bpctl: a state' bpctl -S 1 -s error
is 'seen' "$(bpstat -s 1)" error
is 'allup is without it' "$(bpstat -n allup | tr '\n' ' ')" '0 2 '
status 'bpctl: a bad state' 1 bpctl -S 1 -s 'no way'
status 'bpctl: no such node' 1 bpctl -S 9 -s up
ok 'bpctl: back' bpctl -S 1 -s up
ok 'bpctl: mode' bpctl -S 1 -m 0100
has 'seen' "$(bpstat -l 1)" '*---x------*'
ok 'bpctl: mode back' bpctl -S 1 -m 0111

# A slave that ends: not reachable at once, down when the timeout is over
ok 'stop-slave' bplab stop-slave 0
within 2 'not up at once' node_is_not 0 up
within 10 'down' node_is 0 down
has 'not reachable' "$(bpsh 0 true 2>&1)" '*0*'
ok 'start-slave' bplab start-slave 0
within 5 'up again' node_is 0 up

# One that is killed
ok 'restart-slave --kill' bplab restart-slave --kill 1
within 10 'up again' node_is 1 up

# A power cut: nothing is heard, pingtimeout later it is down
ok 'kill' bplab kill 2
within 10 'down' node_is 2 down
is 'the others are up' "$(bpstat -s 0,1 | tr '\n' ' ')" 'up up '
ok 'start' bplab start 2
within 10 'up' node_is 2 up

# A cut cable
ok 'cut' bplab cut 0
within 10 'down' node_is 0 down
ok 'heal' bplab heal 0
within 20 'up' node_is 0 up
is 'a process runs there again' "$(bpsh 0 hostname)" n0

# Cut for less than the timeout: nothing happens
bplab cut 1; sleep 1; bplab heal 1
within 5 'a short cut' node_is 1 up
is 'works' "$(bpsh 1 hostname)" n1

# Set down: what runs there is dead there before it is here
bpsh 1 sleep 305 &
job=$!
within 5 'it runs' bplab exec 1 pgrep -f '^sleep 305$'
ok 'set down' bpctl -S 1 -s down
wait $job
ok "its process has ended here" test $? -ne 0
ok 'and there' sh -c '! bplab exec 1 pgrep -f "^sleep 305$"'
within 5 'it is down, as bpstat has it' node_is_not 1 up
within 20 'it comes back by itself' node_is 1 up
is 'and works' "$(bpsh 1 hostname)" n1
finish
