#!/bin/bash
# bpsh, bpstat and bpctl as programs beside a synthetic bpslave. Nothing moves: the
# processes of bpsh are those of the front end itself (master, -1).
# usage: api_commands.sh BINDIR SERVER
set -u
PATH=$1:$PATH
[ "${3-}" ] || exec "$2" "$0" "$1" "$2" inside
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
bad=0

fail()
{
	echo "FAILED: $*"
	bad=1
}
# is WHAT WANT GOT
is()
{
	[ "$2" = "$3" ] || fail "$1: wanted <$2>, got <$3>"
}
# ends STATUS COMMAND...: runs it with out and err
ends()
{
	local want=$1
	shift
	"$@" >out 2>err
	local got=$?
	[ "$got" = "$want" ] || fail "$*: wanted status $want, got $got: $(cat err)"
}

# -- bpsh: status and messages
ends 0 bpsh -1 true
ends 3 bpsh master sh -c 'exit 3'
ends 7 bpsh master,master,master sh -c 'exit $((7 - BPROC_RANK))'
ends 255 bpsh -1 sh -c 'kill -9 $$'
is signal "-1: Killed" "$(cat err)"
ends 255 bpsh 77 true
is 'no node' 'bpsh: 77: no such node' "$(cat err)"
ends 0 bpsh boot true
is 'no node in a state' 'bpsh: boot: no node is in such a state' "$(cat err)"
ends 127 bpsh 0 ''
ends 127 bpsh 0 nonexistent-program
is 'no program' "bpsh: nonexistent-program: No such file or directory" "$(cat err)"
ends 126 bpsh 0 /
ends 255 bpsh 0 true
is refused "0: node is down" "$(cat err)"
ends 255 bpsh 0-2 true
is 'refused, three' "0: node is down 1: node is down 2: node is down" "$(sort err | xargs)"
ends 2 bpsh 0,master sh -c 'exit 2'
is 'refused, one' "0: node is down" "$(cat err)"
ends 255 bpsh 0x true
ends 255 bpsh -a -A true
ends 255 bpsh -b 0 master true
ends 255 bpsh 10.9.9.9 true
is address "bpsh: no node has the address 10.9.9.9" "$(cat err)"
ends 255 bpsh 10.0.0.1 true
is 'node by address' "0: node is down" "$(cat err)"
ends 255 bpsh
ends 255 bpsh 0
ends 255 env BPROC_RUN_DIR=/nonexistent bpsh 0 true
ends 0 bpsh -h
ends 0 bpsh --version

# -- bpsh: output
ends 0 bpsh -p master,master sh -c 'echo $BPROC_RANK; echo e$BPROC_RANK >&2'
is -p ' -1: 0000000  -1: 0000001' "$(sort out | paste -sd' ')"
is '-p err' ' -1: e0000000  -1: e0000001' "$(sort err | paste -sd' ')"
ends 0 bpsh -p master printf 'a\nb'
is '-p without an end' " -1: a$(printf '\n -1: b')" "$(cat out)"
ends 0 bpsh -L master,master sh -c 'for i in 1 2 3 4 5 6 7 8 9; do printf $BPROC_RANK; sleep 0.01
	printf "$BPROC_RANK\n"; done'
is -L 18 "$(grep -cxE '(00000000000000|00000010000001)' out)"
ends 0 bpsh -p -b 4 master echo 123456789
is '-b' ' -1: 1234 -1: 5678 -1: 9' "$(paste -sd' ' out | tr -s ' ')"
ends 0 bpsh -d master,master sh -c '[ $BPROC_RANK = 0 ] && sleep 0.3; echo $BPROC_RANK; sleep 0.1; echo x'
is -d '-1 0000000 x -1 0000001 x' "$(sed 's/\t-*$//' out | paste -sd' ')"
ends 0 bpsh -s master,master,master sh -c '[ $BPROC_RANK = 0 ] && sleep 0.3; seq 20000'
is '-s' "$(seq 20000 >s; cat s s s | md5sum)" "$(md5sum <out)"
ends 0 bpsh -N master sh -c 'echo x; echo y >&2; cat'
is -N '' "$(cat out err)"
ends 0 bpsh -t master sleep 0.2
grep -qxE '0\.[2-9][0-9]{5}' err || fail "-t: $(cat err)"
printf abc >in
ends 0 bpsh -I in -O f -E g master sh -c 'cat; echo e >&2'
is '-I -O -E' 'abc/e' "$(cat f)/$(cat g)"
is '-I -O -E leave' '' "$(cat out err)"
ends 1 bpsh -I nonexistent master cat
is '-I nothing' "-1: nonexistent: No such file or directory" "$(cat err)"

# -- bpsh: input
head -c 5000000 /dev/urandom >data
bpsh master,master sh -c 'cat >got.$BPROC_RANK' <data
cmp data got.0000000 && cmp data got.0000001 || fail "stdin is not the same everywhere"
# One that never reads and one that ends at once hold nobody up for ever.
bpsh master,master,master sh -c 'case $BPROC_RANK in
	*0) exit;; *1) exec <&-; sleep 0.5;; *2) sleep 0.2; cat >got;; esac' <data
cmp data got || fail "stdin with readers that end"
bpsh -s master,master sh -c 'cat' <data >out
cat data data | cmp - out || fail "stdin and -s"
ends 0 bpsh -n master,master cat
bpsh master cat <data | cmp - data || fail "stdin of one"
timeout 10 bpsh master,master yes | head -n 1 >out
is 'reader gone' y "$(cat out)"
ends 0 bpsh master,master cat <&-

# -- bpsh: a signal that is sent to it goes to all
bpsh master,master sh -c 'trap "echo got; exit 5" TERM; echo ready; while :; do sleep 0.05; done' >out &
for _ in $(seq 100); do [ "$(grep -c ready out)" = 2 ] && break; sleep 0.05; done
kill -TERM $!
wait $!
is 'status after TERM' 5 $?
is 'TERM for all' 2 "$(grep -c got out)"

bpsh master,master sleep 100 2>err &
sleep 0.3
kill -TERM $!
wait $!
is 'status of bpsh that is ended' 143 $?

# -- bpstat
ends 0 bpstat
cat >want <<'X'
Node(s)                         Status          Mode       User       Group
1                               down            ---------- root       root
3                               error           ---x--x--x root       root
0                               up              ---x--x--x root       root
2                               up              ------x--- daemon     7
X
sed -i 's/ *$//' want
sed 's/ lp$/ 7/; s/ *$//' out | diff want - || fail bpstat
ends 0 bpstat -l
grep -qE '^0 +10\.0\.0\.1 +up +---x--x--x root +root$' out || fail "bpstat -l: $(cat out)"
grep -qE '^1 +- +down +---------- root +root +\(wrong key\)$' out || fail "bpstat -l: $(cat out)"
ends 0 bpstat -n -R
is 'bpstat -n -R' '3 2 1 0' "$(xargs <out)"
ends 0 bpstat -n -S
is 'bpstat -n -S' '1 3 0 2' "$(xargs <out)"
ends 0 bpstat -n -O 3,1 0
is 'bpstat -n -O' '3 1 0' "$(xargs <out)"
ends 0 bpstat -s up
is 'bpstat -s' 'up up' "$(xargs <out)"
ends 0 bpstat -t allnotdown
is 'bpstat -t' 3 "$(cat out)"
ends 0 bpstat -a 0,1
is 'bpstat -a' '10.0.0.1 -' "$(xargs <out)"
ends 0 bpstat -p 0,2
is 'bpstat -p' 'PID Node 1000 0 1002 2 1003 0 1005 2' "$(xargs <out)"
ends 0 bpstat -A 10.0.0.3
is 'bpstat -A' 2 "$(cat out)"
printf '  PID CMD\n 1001 a\n   1 b\n' | bpstat -P >out
is 'bpstat -P' 'NODE PID CMD 1 1001 a 1 b' "$(xargs <out)"
ends 1 bpstat 0 77
is 'bpstat, no such node' 'bpstat: 77: no such node' "$(cat err)"
ends 0 bpstat boot
ends 1 bpstat 9x
is 'bpstat 9x' 'bpstat: "9x" names no nodes' "$(cat err)"
ends 1 bpstat -x
ends 1 env BPROC_RUN_DIR=/nonexistent bpstat
is 'no bproc' 'bpstat: BProc is not set up here: no /nonexistent/node.sock' "$(cat err)"
mkdir between && touch between/init.sock
ends 1 env BPROC_RUN_DIR=between bpstat
is 'between two bpslaves' 'bpstat: bpslave is not running here (between/node.sock)' "$(cat err)"

# -- bpps
ends 0 bpps -a -n 2 -o pid,node,uid,stat,pcpu,time,etime,rss,vsz,comm
cat >want <<'X'
    PID NODE   UID STAT  %CPU     TIME     ELAPSED     RSS      VSZ COMMAND
5001400    2     0 S     50.0 01:01:01    02:02:03    1234     5678 na?me
5001401    2     1 S     50.0 01:01:01    02:02:03    1234     5678 na?me
X
diff want out || fail bpps
ends 0 bpps -u daemon -n 2,3 -H -o pid,user,args
is 'bpps -u' '5001401 daemon [na?me] 5001601 daemon [na?me]' "$(xargs <out)"
ends 0 bpps -u 0 -o pid=,uid= -n 2
is 'bpps -o x=' '5001400 0' "$(xargs <out)"
ends 0 bpps -a -H
is 'bpps: pages, and not the node that is down' 134 "$(wc -l <out)"
ends 0 bpps -H -o pid 5001400
is 'bpps PID' 5001400 "$(xargs <out)"
ends 1 bpps -H -o pid 5001400 1999
is 'bpps no PID' 'bpps: 1999: no such process' "$(cat err)"
is 'bpps and the others' 5001400 "$(xargs <out)"
ends 1 bpps -n 7
is 'bpps -n 7' 'bpps: 7: no such node' "$(cat err)"
ends 1 bpps -o pid,nothing
is 'bpps -o' 'bpps: nothing: no such column' "$(cat err)"
ends 1 bpps -u nonexistent-user
ends 1 bpps 12x
ends 1 bpps -x
ends 0 bpps -h
ends 1 env BPROC_RUN_DIR=/nonexistent bpps

# -- bpctl
ends 0 bpctl -S 0-2 -s error -m 110 -u root -g 0
ends 1 bpctl -s up
ends 1 bpctl -S 0
ends 1 bpctl -S 99 -s up
is 'bpctl 99' 'bpctl: 99: no such node' "$(cat err)"
ends 1 bpctl -S 0 -m 644
is 'bpctl -m' '0: mode 0644: a node has execute bits only' "$(cat err)"
ends 1 bpctl -S 0 -m 9
ends 1 bpctl -S 0 -u nonexistent-user
ends 1 bpctl -S 0 -s 'no good'
ends 1 bpctl -S 0 -s abcdefghijklmnopq

[ $bad = 0 ] && echo ok
exit $bad
