#!/bin/bash
# Crashes at bad moments: no process is doubled, none is lost but those of the
# node that died, every call comes back. 3 nodes, pingtimeout 3.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
prog=$LAB_PROGRAMS/many_static

# A node dies under its processes: they are killed, as their parents see it
bpsh 2 sleep 400 &
job=$!
sleep 0.5
bplab kill 2
wait $job
got=$?
ok "bpsh to a node that died ends with $got" test $got -ne 0
within 10 'the node is down' node_is 2 down
has 'what is asked of it now' "$(bpsh 2 true 2>&1)" '*2*'
bplab start 2
within 10 'up again' node_is 2 up
is 'and works' "$(bpsh 2 hostname)" n2

# A node dies while a big process is on its way there: it goes on at home
cat >"$t/big.c" <<'END'
#include <bproc.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv)
{
	size_t n = 300ul << 20, bad = 0;
	char *v = malloc(n);
	int r, node = atoi(argv[1]);
	for (size_t i = 0; i < n; i++)
		v[i] = (char)(i >> 12);
	printf("going\n");
	fflush(stdout);
	r = bproc_move(node);
	for (size_t i = 0; i < n; i++)
		bad += v[i] != (char)(i >> 12);
	printf("%s errno %d on %d bad %zu: %s\n", r ? "failed" : "moved", r ? errno : 0,
	       bproc_currnode(), bad, r ? bproc_errtext() : "");
	return bad != 0 || argc != 2;
}
END
# shellcheck disable=SC2046
if ! cc -O1 "$t/big.c" -o "$t/big" $(pkg-config --cflags --libs bproc); then
	bad 'a program is built with pkg-config'
fi
mid_move() { # TEXT COMMAND...: COMMAND in the middle of a move to node 1
	local text=$1; shift
	"$t/big" 1 >"$t/big.out" 2>&1 &
	job=$!
	within 5 "$text: it goes" grep -q going "$t/big.out"
	sleep 0.02
	"$@" || bad "$text: $*"
	( sleep 30; kill -USR1 $job; sleep 2; kill -9 $job ) 2>/dev/null &
	guard=$!
	wait $job
	got=$?
	kill $guard 2>/dev/null
	wait $guard 2>/dev/null
	ok "$text: it came to an end" test $got -ne 138
	echo "   $text: status $got, $(tail -n 1 "$t/big.out")"
}
mid_move 'node killed' bplab kill 1
if [ $got -eq 0 ]; then
	has 'node killed: it is where it was' "$(tail -n 1 "$t/big.out")" 'failed errno * on -1 bad 0*'
else
	# It had arrived already: it died with its node
	is 'node killed after it had arrived' $got 137
fi
within 10 'down' node_is 1 down
bplab start 1
within 10 'up' node_is 1 up

mid_move 'master killed' bplab restart-master --kill
is 'master killed: one whole process' $got 0
has 'master killed: moved, or not' "$(tail -n 1 "$t/big.out")" '* bad 0*'
within 15 'up' node_is 1 up

mid_move 'slave of the target killed' bplab restart-slave --kill 1
is 'slave of the target killed: one whole process' $got 0
has 'slave of the target killed: moved, or not' "$(tail -n 1 "$t/big.out")" '* bad 0*'
within 15 'up' node_is 1 up

mid_move 'slave of the source killed' bplab restart-slave --kill master
is 'slave of the source killed: one whole process' $got 0
has 'slave of the source killed: moved, or not' "$(tail -n 1 "$t/big.out")" '* bad 0*'
within 15 'up' node_is 1 up

mid_move 'cable cut' bplab cut 1
bplab heal 1
within 20 'up' node_is 1 up
# Home's slave is killed just as a process comes home that has not read its stdin to the end: what
# was on its way is lost, so it has ended. Nothing comes behind a gap.
cat >"$t/lines.pl" <<'END'
my ($t, $want, $rest, $got) = ($ARGV[0], 1, "", "");
$| = 1;
sub take {
	sysread(STDIN, $got, $_[0]) or return 0;
	for ($rest .= $got; $rest =~ s/^(\d+)\n//; $want++) {
		print("gap: $1 in place of $want\n"), exit if $1 != $want;
	}
	return 1;
}
take(4096);
print "read\n";
select(undef, undef, undef, 0.02) until -e "$t/go";
1 while take(65536);
print "ended\n";
END
for i in 1 2 3 4 5 6; do
	rm -f "$t/go"
	seq 1 2000000 | perl "$t/lines.pl" "$t" >"$t/lines" &
	job=$!
	within 5 "stdin $i: it reads" grep -q read "$t/lines"
	ok "stdin $i: it goes" bpmove $job 0
	sleep 0.2
	bpmove $job master 2>/dev/null &
	mover=$!
	sleep "0.00$((RANDOM % 6))"
	bplab restart-slave --kill master || bad "stdin $i: restart-slave"
	wait $mover
	within 10 "stdin $i: home" sh -c "bpmove $job master || [ \"\$(bpps $job | awk 'END { print \$2 }')\" = -1 ]"
	: >"$t/go"
	wait $job
	is "stdin $i: no gap" "$(tail -n 1 "$t/lines")" ended
done
is 'works after all that' "$(bpsh -a hostname | sort | tr '\n' ' ')" 'n0 n1 n2 '
[ -x "$prog" ] || bad "no $prog"
finish
