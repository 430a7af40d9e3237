#!/usr/bin/env bash
# What people run: a data base in a transaction, a compiler, a compressor with threads, a
# server with its client, C++ that throws, OpenMP. Each is taken in the middle of it with all of
# its children and put back. $1 vmadump, $2 the directory of the test programs.
here_dir=$(dirname "$(readlink -f "$0")")
# shellcheck source=/dev/null
. "$here_dir/vmadump_lib.sh"
# shellcheck disable=SC2034 # the library has it
dump_flags=(-t)

# once COMMAND...: it waits somewhere for the file "go", is dumped before that is there, and put
# back after it
once() {
	local rc
	rm -f go
	start out "$@"
	lines reached 1
	# shellcheck disable=SC2154 # the library has them
	"$vmadump" dump -t "$pid" image || fail "$1: dump"
	"$vmadump" dump -t -k "$pid" image || { fail "$1: dump -k"; return; }
	gone "$pid"
	"$vmadump" check image || fail "$1: check"
	touch go
	(close_fds; exec "$vmadump" restore image </dev/null >restored 2>&1)
	rc=$?
	[ "$rc" -eq 0 ] || fail "$1: ended with $rc: $(cat restored out.err)"
}

# -- sqlite3: a transaction over many statements, with the locks and the journal of one
{
	echo 'CREATE TABLE t(x INTEGER); BEGIN;'
	for ((i = 1; i <= 50; i++)); do
		echo "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 500)"
		echo "INSERT INTO t SELECT n * $i FROM c;"
		echo ".shell echo $i; sleep 0.02"
	done
	echo 'COMMIT; SELECT count(*), sum(x) FROM t;'
} >script
{ seq 1 50; echo "25000|$((500 * 501 * 50 * 51 / 4))"; } >want
carried sqlite 15 want sqlite3 -init /dev/null data.db '.read script'
[ "$(sqlite3 data.db 'PRAGMA integrity_check')" = ok ] || fail 'sqlite: the data base'

# -- gcc: the driver, cc1, and as, which lets cc1 wait with its pipe full
for ((i = 0; i < 150; i++)); do
	echo "int f$i(int *p, int n) { int s = $i; for (int k = 0; k < n; k++)"
	echo "	switch (p[k] % 5) { case 0: s += p[k]; break; case 1: s ^= k; break; default: s -= $i; } return s; }"
done >big.c
mkdir tools
# shellcheck disable=SC2016
printf '#!/bin/sh\necho >>reached\nuntil [ -e go ]; do sleep 0.02; done\nexec %s "$@"\n' \
	"$(command -v as)" >tools/as
chmod +x tools/as
touch go
gcc -O2 -pipe -B"$PWD/tools/" -c big.c -o want.o
: >reached
once gcc -O2 -pipe -B"$PWD/tools/" -c big.c -o big.o
cmp want.o big.o || fail 'gcc: another object'

# -- redis-server and a client of it, over one connection all the time. The program goes by its
# name; the package that has the name would start one on this machine.
ln -s "$(command -v redis-check-rdb)" redis-server
{ seq 1 150; echo "150 redis ok"; } >want
# shellcheck disable=SC2016
carried redis 20 want bash -c '
	./redis-server --port 0 --unixsocket redis.sock --save "" --appendonly no >redis.log 2>&1 &
	until redis-cli -s redis.sock ping >/dev/null 2>&1; do sleep 0.02; done
	redis-cli -s redis.sock -r 150 -i 0.01 INCR n
	echo "$(redis-cli -s redis.sock GET n) redis ok"
	redis-cli -s redis.sock SHUTDOWN NOSAVE
	wait'

# -- xz with two threads, in a pipeline: the same bytes as without
seq 1 300000 >plain
xz -4 -T2 --block-size=512KiB <plain >want.xz
: >reached
# shellcheck disable=SC2016
once bash -c '{
	head -c 1500000 plain
	echo >>reached
	until [ -e go ]; do sleep 0.02; done
	tail -c +1500001 plain
} | xz -4 -T2 --block-size=512KiB >plain.xz'
cmp want.xz plain.xz || fail 'xz: other bytes'

# -- C++ and OpenMP
g++ -O1 -o throw "$here_dir/vmadump_throw.cpp" || fail 'g++'
for ((i = 0; i < 100; i++)); do echo $((i * i)); done >want
echo 'throw ok' >>want
carried throw_out 20 want ./throw
gcc -O2 -fopenmp -o omp "$here_dir/vmadump_omp.c" || fail 'gcc -fopenmp'
OMP_NUM_THREADS=4 ./omp >want
OMP_NUM_THREADS=4 carried omp_out 20 want ./omp
:
