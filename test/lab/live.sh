#!/bin/bash
# bpmove --live: programs go home -> n0 -> n1 -> home while they change their memory and look at it,
# and end as they would have; whatever ends or fails in the rounds, they go on.
# $1: the test program. 2 nodes, pingtimeout 3.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
program=$1
cd "$t" || exit 1
grows() {
	local n
	n=$(stat -c %s "$1")
	within 30 "$2 goes on" eval "[ \$(stat -c %s $1) -gt $n ]"
}

# around NAME LAPS: by rounds, each time
around() {
	local lap to
	for ((lap = 0; lap < $2; lap++)); do
		for to in 0 1 master; do
			if ! bpmove --live -v "$p" $to >said 2>&1; then
				bad "$1, lap $lap, to $to: $(cat said)"
				return
			fi
			grep -q ' rounds, ' said || bad "$1, lap $lap, to $to: $(cat said)"
		done
	done
	good "$1: $lap laps"
	is "$1 is at home" "$(node_of "$p")" -1
}

# ends NAME: it is told to, and was right all the time
ends() {
	: >stop
	wait "$p"
	is "$1 ends with 0" $? 0
	is "$1: all is as it has to be" "$(tail -n 1 out)" ok
	rm -f stop
}

# 1 all that memory can do, with threads and children
start() {
	rm -f stop
	: >out
	"$program" "$@" </dev/null >out 2>&1 &
	p=$!
	within 30 'it writes' lines out 1
}
start 48 20
around memory 10
ends memory

# 2 python3 in its work
if [ -x /usr/bin/python3 ]; then
	: >out
	/usr/bin/python3 -u -c '
import hashlib, os, threading, time
blob = bytearray(os.urandom(1 << 20) * 24)
want = hashlib.sha256(blob).hexdigest()
steps, end = [0], threading.Event()
def work():
    while not end.wait(0.005):
        steps[0] += 1
        blob[steps[0] % len(blob)] ^= 255
x = threading.Thread(target=work)
x.start()
names, n = {}, 0
while not os.path.exists("stop"):
    n += 1
    names[str(n)] = [n] * (n % 50)
    if n % 1000 == 0:
        names = {k: v for k, v in names.items() if int(k) % 3}
    print(n)
    time.sleep(0.005)
end.set()
x.join()
for k in range(1, steps[0] + 1):
    blob[k % len(blob)] ^= 255
good = hashlib.sha256(blob).hexdigest() == want and all(len(v) == int(k) % 50 for k, v in names.items())
print("ok" if good else "wrong")' </dev/null >out 2>&1 &
	p=$!
	within 30 'python writes' lines out 3
	around python 4
	ends python
fi

# 3 without what it takes of the kernel it moves all the same, and says so
start 16 5
BPROC_WITHOUT=live bpmove --live -v "$p" 0 >said 2>&1
is 'moved without' "$? $(node_of "$p")" '0 0'
has 'it is said' "$(cat said)" '*pages do not go ahead: BPROC_WITHOUT says so: moved without*stood still*'
ok 'home' bpmove --live "$p" master

# 4 whoever moves it is killed in the rounds: it goes on, and can be moved
ends 'the one that was moved without'
start 160 60
ahead() { dead $m || find /proc/$m/fd -lname '*pagemap' 2>/dev/null | grep -q .; }
for n in 1 2 3; do
	bpmove --live "$p" 1 2>/dev/null &
	m=$!
	within 30 "pages go ahead, $n" ahead
	kill -KILL $m 2>/dev/null
	wait $m 2>/dev/null
	grows out 'it'
	within 20 'home again' bpmove --live "$p" master
done
ends 'the one whose movers were killed'

# 5 who may not go: by name, and it goes on
status 'nobody' 1 bpmove --live 4000000 0 2>/dev/null
start 16 5
kill -STOP "$p"
bpmove --live "$p" 0 2>said
is 'one that is stopped stays' "$? $(node_of "$p")" '1 -1'
has 'it is said' "$(cat said)" '*it is stopped*'
kill -CONT "$p"
grows out 'it'
bpmove --live "$p" 9 2>said
is 'to nowhere' "$? $(node_of "$p")" '1 -1'
has 'it is said' "$(cat said)" '*there is no node 9*'
ends 'the one that could not go'
perl -e '$| = 1; use Socket; socket(S, PF_INET, SOCK_DGRAM, 0);
	while (1) { print "."; select undef, undef, undef, 0.01 }' >dots &
p=$!
within 20 'it writes' test -s dots
bpmove --live $p 0 2>said
is 'a socket stays' $? 1
has 'it is named' "$(cat said)" '*is a socket; it cannot move*'
grows dots 'it'
kill -KILL $p
wait $p 2>/dev/null

# 6 the process ends, or is another program, in the rounds; the node dies in them
start 192 60
bpmove --live "$p" 0 2>said &
m=$!
sleep 0.2
kill -KILL "$p"
wait "$p" 2>/dev/null
wait $m
has 'killed in the rounds' "$? $(cat said)" '1 bpmove: *'
: >out
bash -c 'x=$(head -c 60000000 /dev/zero | tr "\0" x); echo 1; sleep 0.5; exec sleep 600' >out &
p=$!
within 30 'it has its memory' lines out 1
bpmove --live "$p" 0 2>said
is 'another program in the rounds is moved, or stays' "$? $(node_of "$p") $(grep -c 'another program' said)" \
	"$(if [ -s said ]; then echo '1 -1 1'; else echo '0 0 0'; fi)"
kill -KILL "$p"
wait "$p" 2>/dev/null
start 192 60
bpmove --live "$p" 1 >said 2>&1 &
m=$!
sleep 0.3
bplab kill 1
wait $m
r=$?
if [ $r -eq 0 ]; then
	wait "$p"
	good 'the node died with it'
else
	grows out 'the one whose node died'
	has 'the node is named' "$(cat said)" 'bpmove: *'
	# Or it is up yet to the master, and its data port is the dead one's.
	within 60 'it is known' node_is_not 1 up
	bplab start 1
	within 60 'node 1 is up' node_is 1 up
	ok 'to where it was to go' bpmove --live "$p" 1
	ok 'home' bpmove --live "$p" master
	ends 'the one whose node died'
fi
finish
