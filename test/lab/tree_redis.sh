#!/bin/bash
# redis-server under load from a client that goes along, home -> n0 -> n1 -> home with
# bpmove --tree, ten times; its socket listens, by a name. Then bpslave of the node ends in the
# middle of moves: all of them are somewhere, and the name leads there. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
cd "$t" || exit 1
program=$(command -v redis-check-rdb) || { echo 'skipped: no redis here'; exit 77; }
ln -s "$program" redis-server # Debian's redis-tools has it by the other name only

# Over one connection all the time, then over new ones, where the program has got to.
cat >redis.sh <<'END'
./redis-server --port 0 --unixsocket redis.sock --save "" --appendonly no >redis.log 2>&1 &
until redis-cli -s redis.sock ping >/dev/null 2>&1; do sleep 0.02; done
redis-cli -s redis.sock -r 400 -i 0.01 INCR n
echo "$(redis-cli -s redis.sock GET n) redis ok"
until [ -e stop ]; do sleep 0.1; done
redis-cli -s redis.sock SHUTDOWN NOSAVE
wait
END
{ seq 1 400; echo '400 redis ok'; } >want
bash redis.sh </dev/null >out 2>err &
p=$!
within 30 'redis counts' lines out 20
moved redis 10 --tree
within 60 'it has counted on' cmp out want
is 'nothing is said' "$(cat err)" ''
answers() { [ "$(timeout 10 redis-cli -s redis.sock ping)" = PONG ]; }
there() { bpmove --tree "$p" "$1"; }

# A lab's nodes have one file system: who arrives has its name there, before it is decided.
for delay in 0.02 0.06 0.1; do
	there 0 2>said &
	mover=$!
	sleep $delay
	bplab restart-slave 0 || bad 'restart-slave'
	wait $mover
	within 20 'the node is up' node_is 0 up
	within 20 "after $delay s: who comes to its name is answered" answers
	within 20 'all of it comes home' there master
	within 20 'it answers there' answers
done
touch stop
wait "$p"
is 'redis ends with 0' $? 0
is 'nothing is left of its name' "$(echo redis.sock*)" 'redis.sock*'
finish
