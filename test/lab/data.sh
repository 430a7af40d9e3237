#!/bin/bash
# The connection that carries an image dies when the image is written and nobody has read it. Nothing
# waits for that: the process goes on where it was, at once. 2 nodes; the time after which a node
# misses an image is a minute. data.sh plain: where images are not encrypted.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
workers() { # PLACE: its processes that carry images
	bplab exec "$1" pidof bpdata
}
signal() { # PLACE SIGNAL PID...: those that are still there
	local place=$1 sig=$2
	bplab exec "$place" sh -c "kill -$sig \$* 2>/dev/null; true" - "${@:3}"
}
# It moves, and its image lies unread with PLACE's workers, who are stopped.
writes() { # PLACE TO
	bpsh 0 true # there is a connection
	within 5 "$1: images are carried" workers "$1"
	held=$(workers "$1")
	# shellcheck disable=SC2086
	signal "$1" STOP $held
	bpmove "$p" "$2" 2>"$t/said" &
	job=$!
	sleep 0.5
}
lacks() { ! grep -q "$1" "$2"; }
called_off() { # TEXT WHERE
	local t0=$SECONDS
	wait $job
	status=$?
	ok "$1: it has failed" test $status -ne 0
	ok "$1: and at once" test $((SECONDS - t0)) -lt 8
	ok "$1: nobody has missed it" lacks 'has not come' "$t/said"
	is "$1: it is where it was" "$(node_of "$p")" "$2"
	ok "$1: it works on" bpmove "$p" 1
	ok "$1: and goes home" bpmove "$p" master
}

# The one connection of PLACE's bpslave, which is stopped, that has an image unread ends, by a reset.
resets() { # PLACE
	bplab exec "$1" python3 - "$(bplab exec "$1" pidof -s bpslave)" <<-'END'
	import array, ctypes, fcntl, os, sys, termios

	libc, n = ctypes.CDLL(None), 0
	pid = os.pidfd_open(int(sys.argv[1]))
	for name in os.listdir("/proc/%s/fd" % sys.argv[1]):
	    fd = libc.syscall(438, pid, int(name), 0)  # pidfd_getfd
	    unread = array.array("i", [0])
	    try:
	        fcntl.ioctl(fd, termios.FIONREAD, unread)
	        if unread[0] > 4096 and os.readlink("/proc/self/fd/%d" % fd).startswith("socket:"):
	            n += libc.connect(fd, bytes(16), 16) == 0  # AF_UNSPEC: it is reset
	    except OSError:
	        pass
	sys.exit(n != 1)
	END
}
breaks() { # FROM TO: the move of p from there
	bpsh 0 true
	signal "$2" STOP "$(bplab exec "$2" pidof -s bpslave)"
	bpmove "$p" "$2" 2>"$t/said" &
	job=$!
	within 2 "to $2: a connection breaks, its image unread" resets "$2"
	signal "$2" CONT "$(bplab exec "$2" pidof -s bpslave)"
	called_off "the connection to $2 breaks" "$1"
}
if [ "${1-}" = plain ]; then
	sleep 1000 &
	p=$!
	breaks -1 0
	# There is a connection from node to node from then on.
	for place in 0 1 0; do
		ok "to $place" bpmove "$p" $place
	done
	breaks 0 1
	kill "$p"
	wait "$p"
	is 'and ends' $? 143
	finish
	exit
fi

sleep 1000 &
p=$!
for place in master 0; do
	writes $place 0
	# shellcheck disable=SC2086
	signal $place KILL $held
	called_off "what carries it at $place is killed" -1
done

ok 'to node 0' bpmove "$p" 0
writes 0 master
# shellcheck disable=SC2086
signal 0 KILL $held
called_off 'on its way home' 0

# bpslave ends before a byte of the image has been carried. It is the process's: if that has written
# all of it, it moves, else the move is called off
writes master 0
bplab restart-slave --kill master
# shellcheck disable=SC2086
signal master CONT $held
wait $job
within 8 'bpslave at home is killed: that move is over' bpmove "$p" 1
kill "$p"
wait "$p"
is 'and ends' $? 143
finish
