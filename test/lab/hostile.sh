#!/bin/bash
# Somebody means harm: as an ordinary user of the front end, as one of a node, as a
# stranger on the network. No daemon ends, none keeps what it was given, and a
# process of root's on a node does not notice. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
export SEED=${SEED:-$RANDOM}
echo "SEED=$SEED"
hostile=$LAB_PROGRAMS/hostile

daemons() { pgrep -x 'bpmaster|bpslave|bpinit' | sort | tr '\n' ' '; }
node_daemons() { bplab exec 0 pgrep -x 'bpslave|bpinit' | sort | tr '\n' ' '; }
open_files() { # of all daemons of the front end and of node 0
	{
		for p in $(daemons); do ls "/proc/$p/fd"; done
		bplab exec 0 sh -c 'for p in $(pgrep -x "bpslave|bpinit"); do ls "/proc/$p/fd"; done'
	} 2>/dev/null | wc -l
}
few_open() { [ "$(open_files)" -le $((files + 8)) ]; }
same_here() { [ "$(daemons)" = "$before" ]; }
same_there() { [ "$(node_daemons)" = "$there" ]; }
works() { [ "$(timeout 20 bpsh 0,1 hostname | sort | tr '\n' ' ')" = 'n0 n1 ' ]; }

bpsh 0 bash -c 'trap "echo one >>'"$t"'/seen" USR1; while :; do sleep 0.1; done' &
victim=$!
ok 'it works' works
within 5 'its ghost is there' test -d /proc/$victim
for i in 1 2 3; do ok "it still works, $i" works; done
before=$(daemons) there=$(node_daemons) files=$(open_files)

check() { # TEXT
	within 5 "$1: the daemons of the front end live ($before)" same_here
	within 5 "$1: those of the node ($there)" same_there
	ok "$1: it works" works
	within 30 "$1: nothing is kept open ($(open_files), before $files)" few_open
	ok "$1: root's process lives" alive $victim
	is "$1: no link was lost" "$(grep -c 'link lost' /run/bplab/log/bpmaster)" 0
}

ok 'packets to bpslave' "$hostile" local
check local
ok 'packets to bpslave, on a node' bpsh 0 "$hostile" local
check 'local on a node'
ok 'channels' "$hostile" channel $victim
check channel
ok 'channels, on a node' bpsh 1 "$hostile" channel $victim
check 'channel on a node'

# Rights that the user has not got, or has in a namespace of his own only, do not go along
nobody='setpriv --reuid=65534 --regid=65534 --clear-groups'
bpctl -S all -m 0111
chmod 755 "$t"
cp "$(command -v sleep)" "$t/raised" && chmod 4755 "$t/raised"
if $nobody unshare -Ur true; then
	has 'who is root in a user namespace of his own does not leave it' \
		"$($nobody unshare -Ur bpsh 0 sh -c 'read -r x </etc/shadow && echo "$x"' 2>&1)" \
		'*another user namespace*'
fi
slave=$(pgrep -x bpslave)
kill -STOP "$slave"
"$hostile" later 0 "$t/raised" >"$t/later" &
later=$!
within 10 'who has asked is another program' pgrep -x raised
kill -CONT "$slave"
within 20 'who has asked does not leave with its rights' grep -q errno "$t/later"
has 'but is told why' "$(cat "$t/later")" '*errno 1:*'
wait $later 2>/dev/null
ok 'a set-uid program does not get the blob' "$hostile" raised 0 "$t/raised"
has 'bpsh says so' "$($nobody bpsh 0 "$t/raised" 1 2>&1)" '*set-uid*'
is "root's own goes" "$(bpsh 0 "$t/raised" 0; echo $?)" 0
check 'rights'
bpctl -S all -m 0100

# What is given to a daemon keeps it from nothing
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
for what in asked within told full kept; do
	case $what in asked | within) kill -STOP "$slave" ;; esac # it is to have the last one
	"$hostile" stubborn $what >"$t/stubborn" &
	stubborn=$!
	within 10 "stubborn, $what" test -s "$t/stubborn"
	kill -CONT "$slave"
	ok "stubborn, $what: it works" works
	init=$(pgrep -x bpinit | head -1)
	used=$(ticks "$init")
	sleep 1
	ok "stubborn, $what: bpinit sleeps" test $(($(ticks "$init") - used)) -lt 50
	kill $stubborn
	wait $stubborn 2>/dev/null
	check "stubborn, $what"
done

# Nor what its processes point at
sleep 100 &
elsewhere=$!
bpsh 0 "$hostile" missing $elsewhere &
pointer=$!
sleep 0.5
ok 'who points at what is not there: it works' works
wait $pointer
is 'and is refused' $? 0
kill $elsewhere
check missing

# Who leaves from the node that others come to says of them that they could not be made
bpctl -S 1 -m 0111
bpsh 0 "$hostile" cloned "$(sh -c 'echo $$')" >"$t/cloned" 2>&1 &
liar=$!
sleep 1
for i in 1 2 3 4 5; do ok "a liar does not fail what comes, $i" works; done
ok 'he was at it until now' alive $liar
wait $liar
check cloned

n0=$(bplab exec 0 hostname -I | tr -d ' \n')
master=$(bplab exec 0 sh -c 'ss -Htn state established dport = :2223' | awk '{split($4, a, ":"); print a[1]; exit}')
for at in "$master 2223" "$master 2224" "$n0 2224"; do
	# shellcheck disable=SC2086
	coproc "$hostile" wire $at
	read -r line <&"${COPROC[0]}"
	is "bytes to $at" "$line" silent
	ok "$at: it works beside 200 silent connections" works
	echo >&"${COPROC[1]}"
	# shellcheck disable=SC2154
	wait "$COPROC_PID"
	check "wire $at"
done

# Who asks while bpslave has no descriptor left is answered when it has one again
slave=$(pgrep -x bpslave)
limit=$(prlimit --nofile --noheadings -o SOFT --pid "$slave")
prlimit --nofile=4: --pid "$slave"
bpstat >"$t/late" &
late=$!
sleep 0.5
is 'nobody is let in without a descriptor' "$(cat "$t/late")" ''
prlimit --nofile="$limit": --pid "$slave"
within 10 'who waited is answered' dead $late
has 'with the nodes' "$(cat "$t/late")" '*up*'

kill -USR1 $victim
within 5 "root's process takes its signal" test -s "$t/seen"
is 'once, and no other came' "$(wc -l <"$t/seen")" 1
kill $victim
wait $victim
status_of=$?
is 'and ends as told' $status_of 143
finish
