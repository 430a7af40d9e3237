#!/bin/bash
# bpsh's options and exit statuses, as bpsh(1) has them. 3 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
sorted() { sort | tr '\n' ' '; }

is 'one node' "$(bpsh 1 hostname)" n1
is 'a list' "$(bpsh 0,2 hostname | sorted)" 'n0 n2 '
is 'a range' "$(bpsh 0-2 hostname | sorted)" 'n0 n1 n2 '
is 'an open range' "$(bpsh 1- hostname | sorted)" 'n1 n2 '
is '-a' "$(bpsh -a hostname | sorted)" 'n0 n1 n2 '
is '-A' "$(bpsh -A hostname | sorted)" 'n0 n1 n2 '
is '-p' "$(bpsh -a -p hostname | sort)" "$(printf '  0: n0\n  1: n1\n  2: n2')"
is '-s' "$(bpsh -a -s hostname | tr '\n' ' ')" 'n0 n1 n2 '
is '-s, the first slow' "$(bpsh -s 0,1 sh -c '[ $(hostname) = n0 ] && sleep 0.3; hostname' |
	tr '\n' ' ')" 'n0 n1 '
has '-d' "$(bpsh -d 0,1 hostname)" '0*-----*n0*1*-----*n1'
is '-L keeps lines whole' "$(bpsh -a -L sh -c 'for i in 1 2 3; do printf x; sleep 0.02; echo y; done' |
	sort -u)" xy
is '-N' "$(echo in | bpsh -N 0 sh -c "cat; echo out; readlink /proc/self/fd/0 >$t/N" 2>&1)" ''
is '-N: /dev/null on the node' "$(cat "$t/N" 2>/dev/null)" /dev/null
is '-n' "$(echo in | bpsh -n 0 cat)" ''
is 'options after the nodes' "$(bpsh 0 -n hostname)" n0
is 'input to all' "$(echo same | bpsh -a cat | sorted)" 'same same same '
is 'arguments' "$(bpsh 0 printf '%s|' 'a b' '' '$x')" 'a b||$x|'
is 'environment' "$(ROVER=yes bpsh 0 sh -c 'echo $ROVER')" yes
# As often as it takes: who starts it keeps it off a processor until it runs.
is 'every processor' "$(for _ in {1..100}; do bpsh 0 nproc; done | sort -u)" "$(nproc)"
is 'working directory' "$(cd /usr/share && bpsh 0 pwd)" /usr/share
ok 'a rank' sh -c 'bpsh -a sh -c "echo \$BPROC_RANK" | sort -u | wc -l | grep -qx 3'


# The dynamic loader runs where the program does: a library that only the node has is found.
libc=$(ldd /bin/cat | awk '$1 ~ /^libc\.so/ {print $3}')
bplab exec 1 sh -c "mkdir /dev/shm/lib && cp $libc /dev/shm/lib"
has 'the libraries of the node' \
	"$(LD_LIBRARY_PATH=/dev/shm/lib bpsh 1 cat /proc/self/maps)" "*/dev/shm/lib/${libc##*/}*"
cp /bin/cat /dev/shm/our-cat
is 'the program is not on the node' "$(bpsh 1 ls /dev/shm)" lib
is 'it runs there all the same' "$(echo moved | bpsh 1 /dev/shm/our-cat)" moved

status 'exit status' 7 bpsh 0 sh -c 'exit 7'
status 'the largest one' 9 bpsh 0-2 sh -c 'case $(hostname) in n1) exit 9;; n2) exit 3;; esac'
status 'killed by a signal' 255 bpsh 0 sh -c 'kill -KILL $$'
has 'and says so' "$(bpsh 0 sh -c 'kill -TERM $$' 2>&1)" '*0*'
status 'nothing wrong' 0 bpsh -a true
has 'no such command' "$(bpsh 0 /no/such/command 2>&1)" '*/no/such/command*'
ok 'no such command: status' sh -c '! bpsh 0 /no/such/command 2>/dev/null'
has 'no such node' "$(bpsh 9 true 2>&1)" '*9*'
ok 'no such node: status' sh -c '! bpsh 9 true 2>/dev/null'
ok 'no arguments' sh -c '! bpsh 2>/dev/null'

# What it looks like here while it runs there
bpsh 0 sleep 300 &
job=$!
sleep 0.3
child=$(pgrep -P $job | head -n 1)
pid=${child:-$job}
has 'its name in ps' "$(ps -o args= -p "$pid")" '*sleep*300*'
has 'bpstat -p' "$(bpstat -p)" "*$pid*0*"
ok 'kill' kill "$pid"
wait $job
within 3 'gone on the node' sh -c '! bplab exec 0 pgrep -f "^sleep 300$"'

# ^C of the group
set -m # a group of its own, with SIGINT as from a terminal
bpsh -a sleep 301 &
job=$!
set +m
sleep 0.5
kill -INT -- -$job
within 3 'gone everywhere' sh -c '! pgrep -f "^sleep 301$"'
for n in 0 1 2; do
	within 3 "gone on n$n" sh -c "! bplab exec $n pgrep -f '^sleep 301$'"
done
finish
