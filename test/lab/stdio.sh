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
# 141: killed by SIGPIPE; 1: it saw EPIPE. On a socket the signal is raised where a write begins:
# a writer that sleeps for room when its reader goes may get EPIPE alone.
is 'the writer got SIGPIPE or EPIPE' "$(sed 's/^1$/141/' "$t/yes" 2>/dev/null)" 141
bpsh 0 sh -c "trap '' PIPE; yes 2>$t/err; echo \$? >$t/yes2" | head -n 1 >/dev/null
within 5 'yes ended' test -s "$t/yes2"
has 'or EPIPE' "$(cat "$t/err" 2>/dev/null)" '*roken pipe*'

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
finish
