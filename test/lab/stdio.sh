#!/bin/bash
# Standard input, output and error of processes on nodes: every byte, in order,
# nothing lost at the end, and a closed reader is seen by the writer. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

head -c 67108864 /dev/urandom >"$t/in"
ok 'bpsh cat' sh -c "bpsh 0 cat <$t/in >$t/out"
ok '64 MiB through a node' cmp "$t/in" "$t/out"
ok 'bpsh cat, pipes on both sides' sh -c "cat $t/in | bpsh 1 cat | cat >$t/out"
ok '64 MiB through pipes' cmp "$t/in" "$t/out"
rm -f "$t/out"
ok 'to standard error' sh -c "head -c 20000000 $t/in | bpsh 0 sh -c 'cat >&2' 2>$t/out"
ok '20 MB by standard error' sh -c "head -c 20000000 $t/in | cmp - $t/out"
bpsh 0 sh -c 'seq 1 20000; seq 1 20000 >&2' >"$t/o" 2>"$t/e"
ok 'both at once' sh -c "seq 1 20000 | cmp - $t/o && seq 1 20000 | cmp - $t/e"
is '2>&1 keeps the order' "$(bpsh 0 sh -c 'for i in 1 2 3 4 5; do echo $i; echo -$i >&2; done' 2>&1 |
	tr '\n' ' ')" '1 -1 2 -2 3 -3 4 -4 5 -5 '
is 'two nodes in a pipe' "$(bpsh 0 seq 1 50000 | bpsh 1 sha256sum)" "$(seq 1 50000 | sha256sum)"

# The end
for i in 1 2 3 4 5 6 7 8 9 10; do
	[ "$(bpsh 0 sh -c 'printf last')" = last ] || bad "output is lost at exit, round $i"
done
good 'output just before the end, ten times'
is 'no input' "$(bpsh -n 0 cat | wc -c)" 0
is 'empty input' "$(bpsh 0 cat </dev/null | wc -c)" 0
is 'input that ends late' "$( (printf a; sleep 0.3; printf b) | bpsh 0 cat)" ab
is 'input that nobody reads' "$(bpsh 0 echo 'done' <"$t/in")" 'done'
ok 'a process that closes its input' sh -c "bpsh 0 sh -c 'exec <&-; sleep 0.2' <$t/in"

# A reader that leaves
bpsh 0 sh -c "yes; echo \$? >$t/yes" 2>/dev/null | head -n 1 >/dev/null
within 5 'yes ended' test -s "$t/yes"
is 'the writer got SIGPIPE' "$(cat "$t/yes" 2>/dev/null)" 141
bpsh 0 sh -c "trap '' PIPE; yes 2>$t/err; echo \$? >$t/yes2" | head -n 1 >/dev/null
within 5 'yes ended' test -s "$t/yes2"
has 'or EPIPE' "$(cat "$t/err" 2>/dev/null)" '*roken pipe*'

# What programs expect of their stdio
is '/dev/stdout and /dev/stderr can be opened' \
	"$(bpsh 0 sh -c 'echo a >/dev/stdout; echo b >/dev/stderr; echo c >>/proc/self/fd/1' 2>&1 | tr '\n' ' ')" 'a b c '
bpctl -S 0 -m 0111
is 'by an ordinary user too' "$(setpriv --reuid 65534 --regid 65534 --clear-groups \
	bpsh 0 sh -c 'echo a >/dev/stdout; cat /dev/stdin' <<<b | tr '\n' ' ')" 'a b '
is 'they are pipes' "$(bpsh 0 sh -c 'stat -Lc %F /dev/stdin /dev/stdout' </etc/passwd | uniq)" 'fifo'

# Who holds the output when its first owner has gone
is 'a child that goes on writing' "$(bpsh 0 sh -c '(sleep 0.5; echo late) & echo early' |
	tr '\n' ' ')" 'early late '
is 'many lines of it, in order' "$(bpsh 0 sh -c '(sleep 0.2; seq 1 20000) & echo 0' | sha256sum)" \
	"$(seq 0 20000 | sha256sum)"
is 'its status came before' "$(bpsh 0 sh -c 'sleep 2 & exit 7'; echo $?)" 7
hop=$LAB_PROGRAMS/hop_dynamic
is 'a child of one that came home' "$("$hop" 0 fork -1 all </etc/passwd | sha256sum)" \
	"$( (cat /etc/passwd; echo late) | sha256sum)"
mkfifo "$t/idle"
is 'home from the second node, with an idle stdin' \
	"$(timeout 60 "$hop" 0 0 1 0 -1 0 <>"$t/idle" && echo home)" home
is 'one that was born on a node goes round' \
	"$("$hop" 0 child 1 line 0 line 1 line -1 line 0 line 1 line | tr '\n' ' ')" \
	'on 1 on 0 on 1 on -1 on 0 on 1 '
is 'a child of one that went on' "$("$hop" 0 fork 1 all </etc/passwd | sha256sum)" \
	"$( (cat /etc/passwd; echo late) | sha256sum)"

# Input that was read ahead is not lost: at home, on another node, for who reads on here
seq 1 200000 >"$t/in"
for way in '0 100001 -1 all' '0 100001 1 all' '0 1 1 70000 0 200000 -1 10 1 5000 -1 all' \
	'0 0 -1 all' '0 0 1 0 -1 all' '0 400000 -1 400000 0 all' '0 all -1 all'; do
	# shellcheck disable=SC2086
	ok "a file, $way" sh -c "'$hop' $way <$t/in | cmp - $t/in"
	ok "a pipe, $way" sh -c "cat $t/in | '$hop' $way | cmp - $t/in"
	ok "a slow pipe, $way" sh -c "(head -c 150000 $t/in; sleep 0.4; tail -c +150001 $t/in) |
		'$hop' $way | cmp - $t/in"
done
ok 'home in a hurry, 20 times' sh -c "for i in \$(seq 20); do
	cat $t/in | '$hop' 0 \$((i * 3001)) -1 \$((i * 999)) 1 \$((i * 1009)) -1 all | cmp - $t/in || exit; done"
is 'of a file, bytes that nobody read are there for the next' \
	"$( ("$hop" 0 100000; cat) <"$t/in" | sha256sum)" "$(sha256sum <"$t/in")"
is 'a loop over a list' "$(seq 1 10 >"$t/list"; while read -r i; do bpsh 0 echo "$i"; done <"$t/list" |
	tr '\n' ' ')" '1 2 3 4 5 6 7 8 9 10 '

# A flood does not hold up a signal
bpsh 0 yes >"$t/flood" &
job=$!
sleep 0.5
kill -TERM $job
before=$(date +%s%N)
wait $job
is 'a flooding process is killed' $? 143
ms=$((($(date +%s%N) - before) / 1000000))
ok "in $ms ms" test $ms -lt 3000
rm -f "$t/flood"

# A slow reader: the writer waits, all arrives
is 'a slow reader' "$(bpsh 0 head -c 5000000 /dev/zero | (sleep 1; wc -c))" 5000000
# Over a move: what was read stays read, what was not arrives there
if [ -x "$LAB_EXAMPLES/roam" ]; then
	has 'output after a round trip' "$("$LAB_EXAMPLES/roam")" '*n0 n1 and is home again'
fi
# What a program has made of 0 to 2 on a node is so at home as well
for turn in 'exec >own 2>&1' 'exec 4>&1 >&2 2>&4 4>&-' 'exec 2>&1' 'exec <&- >&- 2>&-' \
	'exec 2>&- >own'; do
	mkdir "$t/turn"
	# shellcheck disable=SC2016
	(cd "$t/turn" && exec bash -c 'echo at home; : >ready; while [ ! -e turn ]; do sleep 0.02; done
		'"$turn"'; : >turned; while [ ! -e go ]; do sleep 0.02; done
		echo out; echo err >&2; ls /proc/$$/fd >fds; : >said
		sleep 60' </dev/null >"$t/o" 2>"$t/e") &
	p=$!
	within 5 'it runs' test -e "$t/turn/ready"
	ok 'there' bpmove $p 0
	: >"$t/turn/turn"
	within 5 "$turn" test -e "$t/turn/turned"
	ok 'home' bpmove $p master
	: >"$t/turn/go"
	within 5 'it goes on' test -e "$t/turn/said"
	case $turn in # o, e, own, and which are open
	'exec >own 2>&1') want='at home||out err|0 1 2' ;;
	*'>&2 2>'*) want='at home err|out||0 1 2' ;;
	'exec 2>&1') want='at home out err|||0 1 2' ;;
	'exec <&-'*) want='at home|||' ;;
	*own) want='at home||out|0 1' ;;
	esac
	got="$(xargs <"$t/o")|$(grep -v 'Bad file' "$t/e" | xargs)|$(cat "$t/turn/own" 2>/dev/null | xargs)"
	is "$turn, at home" "$got|$(xargs <"$t/turn/fds")" "$want"
	kill $p
	rm -r "$t/turn"
done
# Streams that a shell keeps while something else is on 0 to 2: they go along, and are there again
# when it puts them back, wherever that is.
mkdir "$t/saved"
cd "$t/saved" || exit 1
cat >keeps <<'END'
exec 3>&1 4>&2 >"$1.log" 2>&1
for i in $(seq 40); do echo "log $i"; echo "out $i" >&3; echo "err $i" >&4; sleep 0.05; done
exec >&3 2>&4 3>&- 4>&-
echo end; echo end >&2
END
cat >reads <<'END'
while read -r line; do echo "file $line"; sleep 0.05; done <in
while read -r line; do echo "pipe $line"; done
END
seq 40 >in
seq -f 'log %g' 40 >want.log
{ seq -f 'out %g' 40; echo end; } >want.out
{ seq -f 'err %g' 40; echo end; } >want.err
{ seq -f 'file %g' 40; seq -f 'pipe %g' 5; } >want.read
saved() { # HOW NAME NODE...: a script that keeps its output, and one that keeps its input
	local how=$1 n=$2 to p q
	shift 2
	mkfifo "$n.fifo"
	cat "$n.fifo" >"$n.err" &
	{ bash keeps "$n" </dev/null 2>"$n.fifo" & echo $! >"$n.p"; wait $!; } | cat >"$n.out" &
	{ seq 5; sleep 3; } | { bash reads <&0 & echo $! >"$n.q"; wait $!; } >"$n.read" &
	within 10 "$n: it has begun" test -s "$n.log" -a -s "$n.read"
	p=$(cat "$n.p") q=$(cat "$n.q")
	for to; do
		# shellcheck disable=SC2086
		ok "$n: output kept, to $to" bpmove $how "$p" "$to"
		# shellcheck disable=SC2086
		ok "$n: input kept, to $to" bpmove $how "$q" "$to"
		sleep 0.2
	done
	within 20 "$n: it ends" eval "! kill -0 $p || ! kill -0 $q" 2>/dev/null
	for kind in log out err read; do
		within 20 "$n: $kind" cmp "$n.$kind" "want.$kind"
	done
}
saved '' there 0
saved '' round 0 1 master
saved '' back 1 master 0
saved --tree tree 0 1 master
cd "$t" || exit 1
finish
