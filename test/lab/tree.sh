#!/bin/bash
# Processes that move with all that descend from them (bpmove --tree), in the middle of their work,
# home -> n0 -> n1 -> home: a family with pipes, a socket pair and a file that they share, bash with
# a pipeline of its own, gcc with all that it starts. What cannot go leaves all of them where they
# were. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/kin.sh"
cd "$t" || exit 1

family 2 dynamic
moved family 3 --tree
goes_on 'at home again'
bpmove -t "$p" 0
within 10 'all of it is there' test "$(nodes_of)" = '0 0 0 '
goes_on 'and works there'

# One of them cannot: all stay
has 'a part of it cannot go alone' "$(bpmove -t "$child" 1 2>&1)" '*fd *'
goes_on 'and all go on'
is 'where they were' "$(nodes_of)" '0 0 0 '
bpmove -t "$p" master || bad 'home'
family_ends 'from a node'

bash -c '(exec 5<>/dev/udp/127.0.0.1/9; exec sleep 300) & wait' &
p=$!
within 10 'one has a socket' pgrep -P "$p" sleep
child=$(pgrep -P "$p")
has 'it is named' "$(bpmove -t "$p" 0 2>&1)" "*process $child: fd 5 is *"
is 'both stay' "$(node_of "$p") $(node_of "$child")" '-1 -1'
kill "$child"
wait "$p"
is 'and go on' $? 0

# A pipeline; what is in the pipes goes along
cat >loop.sh <<'END'
for ((n = 0; n < 25000; n++)); do
	echo "line $n"
	case $n in *000) sleep 0.05 ;; esac
done |
	while read -r a b; do
		s=$((s + b))
		case $b in *000) echo "$a $b $s $(echo "$s")" ;; esac
	done
echo end
END
bash loop.sh >want
bash loop.sh </dev/null >out 2>err &
p=$!
within 30 'the pipeline writes' lines out 2
moved pipeline 3 --tree
wait "$p"
is 'the pipeline ends with 0' $? 0
is 'all of it' "$(cmp out want 2>&1)$(cat err)" ''

# The compiler, with the programs that it starts
for ((i = 0; i < 300; i++)); do
	echo "int f$i(int *p, int n) { int s = $i; for (int k = 0; k < n; k++)"
	echo "	switch (p[k] % 5) { case 0: s += p[k]; break; case 1: s ^= k; break; default: s -= $i; }"
	echo '	return s; }'
done >big.c
gcc -O2 -pipe -c big.c -o want.o
gcc -O2 -pipe -c big.c -o big.o 2>err &
p=$!
within 10 'the compiler proper runs' pgrep -P "$p" cc1
moved gcc 3 --tree
wait "$p"
is 'gcc ends with 0' $? 0
is 'the same object' "$(cmp big.o want.o 2>&1)$(cat err)" ''
finish
