#!/bin/bash
# Programs with seccomp filters of their own are moved, and have them wherever they are; or are
# refused by name, and run on as they were. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
cd "$t" || exit 1
dir=$1

begin() { # KIND FILTER: $p, which writes to out
	rm -f stop out
	"$dir/filtered_$1" "$2" >out 2>&1 &
	p=$!
	within 20 "$2: it ticks" test -s out
}
kid() { # SIGNAL: $kid
	rm -f kid
	kill -"$1" $p
	within 20 "$1: a child" test -s kid
	kid=$(cat kid)
}
end() {
	touch stop
	status "$1: ends" 0 wait $p
}
# ticks TEXT LINE [WHO]: the first new whole line of out (of a thread) is this
ticks() {
	local from who=${3:-[0-9]}
	from=$(wc -c <out)
	within 20 "$1: goes on" eval "[ \$(tail -c +$((from + 1)) out | grep -c '^$who') -gt 2 ]"
	is "$1" "$(tail -c +$((from + 1)) out | sed 1d | grep "^$who" | head -n 1)" "$3$2"
}
said() { within 20 "$1" grep -q "$2" out; }
refused() { # KIND FILTER PATTERN LINE
	begin "$1" "$2"
	has "$2: refused" "$(bpmove $p 0 2>&1)" "bpmove: $p: $3"
	has "$2: a dry run" "$(bpmove --dry-run $p)" "$p cannot move:*$3*"
	ticks "$2" "$4"
	end "$2"
}
n=1 # a node's own
EBUSY=16 EEXIST=17 EL2HLT=51 EBADE=52 EBADR=53 EPROTO=71

# 1 home, n0, n1, home, with one more on each way; as it was where it is not let in
mkdir w
touch w/held
begin dynamic deny
ticks 'at home' "1 $EPROTO $EBUSY"
ok 'to node 0' bpmove $p 0
ticks 'on node 0' "$((n + 1)) $EPROTO $EBUSY"
kill -USR1 $p
said 'it sets one on node 0' " $EL2HLT\$"
ticks 'with one more' "$((n + 2)) $EPROTO $EL2HLT"
ok 'to node 1' bpmove $p 1
ticks 'on node 1' "$((n + 2)) $EPROTO $EL2HLT"
mount -t tmpfs none w
has 'not home' "$(bpmove $p master 2>&1)" "bpmove: $p: *w/held*"
ticks 'still on node 1' "$((n + 2)) $EPROTO $EL2HLT"
kill -USR1 $p
said 'it sets another on node 1' " $EBADE\$"
has 'not home again' "$(bpmove $p master 2>&1)" "bpmove: $p: *w/held*"
umount w
ok 'home' bpmove $p master
ticks 'home again' "3 $EPROTO $EBADE"
kill -USR1 $p
said 'it sets a third at home' " $EBADR\$"
ok 'away again, its memory ahead' bpmove --live $p 1
ticks 'away again' "$((n + 4)) $EPROTO $EBADR"
ok 'and home, its memory behind' bpmove --lazy $p master
ticks 'and home' "4 $EPROTO $EBADR"
has 'a dry run' "$(bpmove --dry-run $p)" "$p can move*"
end deny

# 2 all threads, and a child of its own
begin static threads
ok 'threads to node 0' bpmove $p 0
ticks 'its first' "$((n + 1)) $EPROTO $EBUSY"
ticks 'its second' "$((n + 1)) $EPROTO $EBUSY" 'thread '
kill -USR1 $p
said 'both have one more' "thread $((n + 2)) $EPROTO $EL2HLT"
ok 'threads home' bpmove $p master
ticks 'its first at home' "2 $EPROTO $EL2HLT"
ticks 'its second at home' "2 $EPROTO $EL2HLT" 'thread '
end threads
# a thread has one that the first has not, and gets more
begin static thread
ticks 'the first has none' "0 $EEXIST $EBUSY"
ticks 'a thread has' "1 $EPROTO $EBUSY" 'thread '
has 'a dry run' "$(bpmove --dry-run $p)" "$p can move*"
ok 'a thread with its own to node 0' bpmove $p 0
ticks 'the first has none there' "$n $EEXIST $EBUSY"
ticks 'the other has' "$((n + 1)) $EPROTO $EBUSY" 'thread '
kill -USR1 $p
said 'it sets one there' "thread $((n + 2)) $EPROTO $EL2HLT"
ok 'on to node 1' bpmove $p 1
ticks 'the first has none on node 1' "$n $EEXIST $EBUSY"
ticks 'the other has two' "$((n + 2)) $EPROTO $EL2HLT" 'thread '
mount -t tmpfs none w
has 'not home' "$(bpmove $p master 2>&1)" "bpmove: $p: *w/held*"
ticks 'the other has two still' "$((n + 2)) $EPROTO $EL2HLT" 'thread '
kill -USR1 $p
said 'it sets another' "thread $((n + 3)) $EPROTO $EBADE"
umount w
ok 'home' bpmove $p master
ticks 'the first has none at home' "0 $EEXIST $EBUSY"
ticks 'the other has three at home' "3 $EPROTO $EBADE" 'thread '
ok 'away again, its memory ahead' bpmove --live $p 0
ticks 'the other on node 0' "$((n + 3)) $EPROTO $EBADE" 'thread '
ok 'and home, its memory behind' bpmove --lazy $p master
ticks 'the other at home' "3 $EPROTO $EBADE" 'thread '
ok 'as a tree' bpmove --tree $p 1
ticks 'the first on node 1' "$n $EEXIST $EBUSY"
ticks 'the other on node 1' "$((n + 3)) $EPROTO $EBADE" 'thread '
end thread

begin dynamic deny
kid USR2
ticks 'an rfork' "$((n + 1)) $EPROTO $EBUSY" 'far '
ok 'the child to node 0' bpmove "$kid" 0
kill -USR1 "$kid"
said 'it sets one there' "^far .* $EL2HLT\$"
ok 'it goes home' bpmove "$kid" master
ticks 'at home' "2 $EPROTO $EL2HLT" 'far '
ok 'its parent goes to node 0' bpmove $p 0
kill -USR1 $p
said 'and sets one' "^[0-9].* $EL2HLT\$"
kid HUP
ticks 'one that is born there' "$((n + 2)) $EPROTO $EL2HLT" 'near '
kill -USR1 "$kid"
said 'it sets one' "^near .* $EBADE\$"
ok 'it goes home' bpmove "$kid" master
ticks 'at home' "3 $EPROTO $EBADE" 'near '
touch near.stop far.stop
ok 'its parent comes home' bpmove $p master
ticks 'at home' "2 $EPROTO $EL2HLT"
end rfork
rm -f near.stop far.stop
begin static none
kid USR2
far=$kid
ok 'a parent that has none to node 0' bpmove $p 0
kill -USR1 $p
said 'sets one there' "^[0-9].* $EL2HLT\$"
kid HUP
ok 'leaves a child there and goes on' bpmove $p 1
ok 'its other child goes there, from before' bpmove "$far" 0
ticks 'that has none' "$n $EEXIST $EBUSY" 'far '
ok 'and goes home' bpmove "$far" master
ticks 'at home' "0 $EEXIST $EBUSY" 'far '
touch near.stop far.stop
end none

# 3 by exec, of a program of home and one of the node
is 'bpsh under a filter' "$("$dir/filtered_static" deny bpsh 0 sh -c \
	'grep Seccomp_filters /proc/self/status; mkdir /tmp/x || echo no' 2>/dev/null | xargs)" \
	"Seccomp_filters: $((n + 1)) no"
is 'bproc_rexec under a filter' "$(REXEC=1 "$dir/filtered_static" deny /bin/grep \
	Seccomp_filters /proc/self/status | xargs)" "Seccomp_filters: $((n + 1))"

# 4 one that allows what the blob calls and no more, and kills for the rest: no call is forgotten
begin static table
for to in 0 1 master 1 master; do
	ok "by the table to $to" bpmove $p $to
done
ticks 'by the table' "1 $EEXIST $EBUSY"
has 'ahead is not in it' "$(bpmove --live $p 0 2>&1)" "bpmove: $p: *userfaultfd()*: moved without"
ticks 'by the table, on node 0' "$((n + 1)) $EEXIST $EBUSY"
end table
begin dynamic root
ok 'root needs no no_new_privs' bpmove $p 0
ticks 'root' "$((n + 1)) $EPROTO $EBUSY"
end root

# 5 with its children: each has what it had, those that it set for itself too
rm -f near.stop far.stop
begin dynamic deny
kid HUP
kill -USR1 "$kid"
said 'a child sets one' "^near 2 .* $EL2HLT\$"
has 'a dry run of a tree' "$(bpmove --dry-run --tree $p)" "$p can move with all*"
ok 'a tree to node 0' bpmove --tree $p 0
is 'the child is there' "$(node_of "$kid")" 0
ticks 'its first on node 0' "$((n + 1)) $EPROTO $EBUSY"
ticks 'its second on node 0' "$((n + 2)) $EPROTO $EL2HLT" 'near '
kill -USR1 $p
said 'the first sets one there' "^[0-9].* $EL2HLT\$"
ok 'on to node 1' bpmove --tree $p 1
ticks 'its first on node 1' "$((n + 2)) $EPROTO $EL2HLT"
ok 'and home' bpmove --tree $p master
ticks 'its first at home' "2 $EPROTO $EL2HLT"
ticks 'its second at home' "2 $EPROTO $EL2HLT" 'near '
touch near.stop
end tree
rm -f near.stop
rm -f stop out
bash -c '"$0" errno:clone3 >second 2>&1 & exec "$0" deny' "$dir/filtered_static" >out 2>&1 &
p=$!
within 20 'it has a child' test -s second
has 'a child that may not: refused' "$(bpmove --tree $p 0 2>&1)" \
	"bpmove: $p: process *: its seccomp filter does not allow clone3(), which a move needs"
has 'a dry run of that' "$(bpmove --dry-run --tree $p)" "*process *: its seccomp filter*not stopped"
ticks 'a child that may not' "1 $EPROTO $EBUSY"
end 'a child that may not'

# 6 what cannot go, by name, and untouched
no='its seccomp filter does not allow'
refused dynamic errno:clone3 "$no clone3(), which a move needs" "1 $EEXIST $EBUSY"
refused static kill:mremap "$no mremap(), which a move needs" "1 $EEXIST $EBUSY"
refused dynamic asks 'it has a seccomp filter with a listener of its own*' "1 $EPROTO $EBUSY"
refused dynamic first 'thread * has a seccomp filter of its own*' "1 $EPROTO $EBUSY"
"$dir/filtered_static" root setpriv --reuid 65534 --clear-groups sleep 1000 &
p=$!
within 10 'it has ids of its own' grep -q '^Uid:.65534' /proc/$p/status
has 'not its own to set: refused' "$(bpmove $p 0 2>&1)" "bpmove: $p: *could not set again*"
kill $p
wait $p 2>/dev/null
begin dynamic strict
has 'strict: refused' "$(bpmove $p 0 2>&1)" "bpmove: $p: it is in seccomp's strict mode*"
within 10 'strict: goes on' alive $p
kill -9 $p
finish
