#!/bin/bash
# What people run goes home -> n0 -> n1 -> home with bpmove in the middle of its work, ten times:
# C++ with exceptions in flight, OpenMP, the compiler proper of gcc with its assembler at the
# other end of a pipe. $1: the directory of their sources. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
sources=$1
cd "$t" || exit 1

# goes NAME COMMAND...: in the background; when it has written something it goes round
goes() {
	local name=$1
	shift
	: >out
	"$@" </dev/null >out 2>err &
	p=$!
	within 30 "$name writes" lines out 2
	moved "$name" 10
	wait "$p"
	is "$name ends with 0" $? 0
	is "$name: all of it" "$(cmp out want 2>&1)" ''
	[ -s err ] && bad "$name: $(head -n 3 err)"
}

ok 'g++' g++ -O1 -o throw "$sources/vmadump_throw.cpp"
{
	for ((i = 0; i < 100; i++)); do echo $((i * i)); done
	echo 'throw ok'
} >want
goes C++ ./throw

ok 'gcc -fopenmp' gcc -O2 -fopenmp -o omp "$sources/vmadump_omp.c"
OMP_NUM_THREADS=4 ./omp >want
goes OpenMP env OMP_NUM_THREADS=4 ./omp

for ((i = 0; i < 1200; i++)); do
	echo "int f$i(int *p, int n) { int s = $i; for (int k = 0; k < n; k++)"
	echo "	switch (p[k] % 5) { case 0: s += p[k]; break; case 1: s ^= k; break; default: s -= $i; }"
	echo '	return s; }'
done >big.c
cc1=$(gcc -print-prog-name=cc1)
"$cc1" -quiet -O2 big.c -o - | as -o want.o
{ "$cc1" -quiet -O2 big.c -o - & echo $! >pid; wait $!; echo $? >status; } | as -o big.o &
as=$!
within 10 'cc1 is there' test -s pid
p=$(cat pid)
moved cc1 10
wait $as
is 'as ends with 0' $? 0
is 'cc1 ends with 0' "$(cat status)" 0
is 'gcc: the same object' "$(cmp want.o big.o 2>&1)" ''
finish
