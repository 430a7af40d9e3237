#!/bin/bash
# A family of three is on its way to a node, all together, when something ends there or here: all of
# them are there, or all where they were; and they go on. 2 nodes, pingtimeout 3.
. "$(dirname "$(readlink -f "$0")")/kin.sh"
cd "$t" || exit 1
MB=40

one_place() { # where they are, if that is one place
	local at
	at=$(nodes_of)
	case $at in '0 0 0 ' | '1 1 1 ' | '-1 -1 -1 ') ;; *) return 1 ;; esac
	place=${at%% *}
}
# mid_move TEXT TO DELAY COMMAND...: COMMAND while they are on their way to node TO
mid_move() {
	local text=$1 to=$2 delay=$3
	shift 3
	timeout 60 bpmove -t "$p" "$to" >said 2>&1 &
	mover=$!
	sleep "$delay"
	"$@" || bad "$text: $*"
	wait $mover
	got=$?
	ok "$text: bpmove comes back ($got, $(cat said))" test $got -ne 124
}
settled() { # TEXT
	within 20 "$1: all are in one place" one_place
	goes_on "$1: they go on, on node $place"
	case $place in -1) ;; *) within 20 "$1: home" bpmove -t "$p" master ;; esac
}

family $MB static
mid_move 'bpslave of the node' 0 0.1 bplab restart-slave 0
within 20 'the node is up' node_is 0 up
settled 'bpslave of the node'
mid_move 'bpslave at home' 0 0.2 bplab restart-slave master
within 20 'the cluster is there' node_is 0 up
settled 'bpslave at home'
mid_move 'bpmaster' 0 0.15 bplab restart-master
within 20 'the nodes are there' node_is 0 up
settled 'bpmaster'

# The mover itself
# shellcheck disable=SC2016 # its number is known then
mid_move 'the mover' 0 0.1 eval 'pkill -9 -P "$mover" || true'
settled 'the mover'

# The node: where they had arrived they die with it
family_ends 'the mover'
family 100 static
mid_move 'the node' 0 0.15 bplab kill 0
if [ $got -eq 0 ]; then
	wait "$p"
	is 'the node: they had arrived, and died there' $? 137
	within 20 'the node: all of them' dead "$child"
	within 20 'the node: all of them' dead "$grand"
else
	settled 'the node'
	family_ends 'the node'
fi
finish
