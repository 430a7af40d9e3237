#!/bin/bash
# What is told of processes that were born on a node, and not acknowledged: that one was
# waited for, has stopped, goes on. Lost with a link or a daemon, it is asked for or told again.
# 1 node, pingtimeout 3.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

# On the node: has two children, and waits for those that have ended when it gets SIGUSR1
prog='use POSIX; $SIG{USR1} = sub { 1 while waitpid(-1, WNOHANG) > 0 };
for (2000, 2001) { exec "sleep", $_ if fork == 0 } sleep 1 while 1'

state() { ps -o s= -p "$1" | tr -d ' '; }
state_is() { [ "$(state "$1")" = "$2" ]; }
stopped() { state_is "$1" T || state_is "$1" t; }
ended() { gone "$1" || state_is "$1" Z; }
gone() { [ -z "$(state "$1")" ]; }
goes_on() { case $(state "$1") in S | R) ;; *) false ;; esac; }
there() { bplab exec 0 pkill "-$1" -f "^$2"; } # numbers in there are others
pid_of() { pgrep -f "^sleep $1\$"; }

begin() {
	bpsh -n 0 perl -e "$prog" &
	job=$!
	within 20 'two are born' pid_of 2001
	a=$(pid_of 2000) b=$(pid_of 2001)
}
end() {
	there KILL "perl -e"
	there KILL "sleep 2001"
	wait $job
	within 30 'nothing is left here' gone "$b"
}

# WHO is away ("bplab" verbs to take and to bring it); what happens meanwhile is known afterwards
away() { # TEXT TAKE BRING
	local text=$1 take=$2 bring=$3
	begin
	there KILL "sleep 2000"
	within 20 "$text: a zombie here, for nobody has waited for it" state_is "$a" Z
	# shellcheck disable=SC2086
	bplab $take || bad "bplab $take"
	there STOP "sleep 2001"
	there USR1 "perl -e"
	sleep 0.5
	# shellcheck disable=SC2086
	bplab $bring || bad "bplab $bring"
	within 30 "$text: it has been waited for meanwhile, so it is gone here" gone "$a"
	within 30 "$text: the other has stopped" stopped "$b"
	# shellcheck disable=SC2086
	bplab $take || bad "bplab $take"
	there CONT "sleep 2001"
	sleep 0.5
	# shellcheck disable=SC2086
	bplab $bring || bad "bplab $bring"
	within 30 "$text: and goes on" goes_on "$b"
	# shellcheck disable=SC2086
	bplab $take || bad "bplab $take"
	there KILL "sleep 2001"
	sleep 0.5
	# shellcheck disable=SC2086
	bplab $bring || bad "bplab $bring"
	within 30 "$text: and has ended" ended "$b"
	there USR1 "perl -e"
	within 30 "$text: now somebody has" gone "$b"
	end
}

away 'the bpslave of the node' 'stop-slave --kill 0' 'start-slave 0'
away 'the bpslave at home' 'stop-slave --kill master' 'start-slave master'
away 'bpmaster' 'stop-master --kill' 'start-master'

# The link ends with what is in it
begin
there KILL "sleep 2000"
within 20 'cut: a zombie here' state_is "$a" Z
bplab cut 0
there USR1 "perl -e"
there STOP "sleep 2001"
within 20 'cut: it is missed' node_is 0 unreachable
bplab heal 0
within 20 'healed' node_is 0 up
within 30 'cut: it is gone here' gone "$a"
within 30 'cut: the other has stopped' stopped "$b"
end
finish
