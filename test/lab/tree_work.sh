#!/bin/bash
# What people run goes home -> n0 -> n1 -> home ten times in the middle of its work, with whatever
# it has started (bpmove --tree): bash with children in each round of a loop, and with a pipeline,
# gcc with the compiler proper and the assembler, xz with two threads. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
cd "$t" || exit 1

# goes NAME: $p goes round, and is still at work then, or was as long as it could be told
goes() {
	moved "$1" 10 --tree
	is "$1: ten laps in the middle of its work" "$laps" 10
	: >stop
	wait "$p"
	is "$1 ends with 0" $? 0
	rm stop
}
# wrote NAME OUT WANT: what it has made is right, and it had nothing to say
wrote() {
	is "$1: all of it" "$(cmp "$2" "$3" 2>&1)$(head -n 3 err)" ''
}

# A shell that waits for a shell that waits for a program, again and again
cat >loop.sh <<'END_OF_LOOP'
n=0 sum=0
until [ -e stop ]; do
	square=$(sleep 0.01; echo $((n * n)))
	(exit $((n % 3)))
	((sum += square + $?, n++))
	echo $sum
done
END_OF_LOOP
: >out
bash loop.sh </dev/null >out 2>err &
p=$!
within 30 'the loop writes' lines out 3
goes loop
awk 'BEGIN { while (n < '"$(wc -l <out)"') { s += n * n + n % 3; n++; print s } }' >want
wrote loop out want

# A pipeline; what is in the pipes goes along
cat >pipeline.sh <<'END_OF_PIPELINE'
until [ -e stop ]; do
	echo "line $((n++))"
	case $n in *000) sleep 0.02 ;; esac
done |
	while read -r a b; do
		((s += b))
		case $b in *000) echo "$a $b $s $(echo "$s")" ;; esac
	done
echo end
END_OF_PIPELINE
: >out
bash pipeline.sh </dev/null >out 2>err &
p=$!
within 30 'the pipeline writes' lines out 2
goes pipeline
{
	for ((n = 1; n < $(wc -l <out); n++)); do
		s=$((n * 1000 * (n * 1000 + 1) / 2))
		echo "line $((n * 1000)) $s $s"
	done
	echo end
} >want
wrote pipeline out want

# The compiler, with the programs that it starts
for ((i = 0; i < 800; i++)); do
	echo "int f$i(int *p, int n) { int s = $i; for (int k = 0; k < n; k++)"
	echo "	switch (p[k] % 5) { case 0: s += p[k]; break; case 1: s ^= k; break; default: s -= $i; }"
	echo '	return s; }'
done >big.c
gcc -O2 -pipe -c big.c -o want.o
gcc -O2 -pipe -c big.c -o big.o 2>err &
p=$!
within 10 'the compiler proper runs' pgrep -P "$p" cc1
within 10 'the assembler runs' pgrep -P "$p" -x as
goes gcc
wrote gcc big.o want.o

# From one file to another, with two threads
if command -v xz >/dev/null; then
	seq 1 4000000 >plain
	xz -6 -T2 --block-size=300000 <plain >want.xz
	xz -k -6 -T2 --block-size=300000 plain 2>err &
	p=$!
	within 20 'xz writes' test -s plain.xz
	goes xz
	wrote xz plain.xz want.xz
fi
finish
