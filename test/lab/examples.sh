#!/bin/bash
# The examples do what they say, and build as their first lines say. 4 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
src=$(dirname "$(readlink -f "$0")")/../../examples

is 'hello' "$("$LAB_EXAMPLES/hello" | sort | cut -c 1-30)" \
	"$(for i in 0 1 2 3; do echo "hello from node $i, which is n$i"; done | cut -c 1-30)"
has 'roam' "$("$LAB_EXAMPLES/roam")" '* was on n0 n1 n2 n3 and is home again'
is 'spawn' "$("$LAB_EXAMPLES/spawn" 2 /bin/hostname)" n2
status 'spawn: no such program' 127 "$LAB_EXAMPLES/spawn" 2 /no/such/program
has 'primes' "$("$LAB_EXAMPLES/primes" 100000000 2)" '*5761455 primes up to 100000000, which is right*'
for f in hello roam spawn primes; do
	# shellcheck disable=SC2046
	ok "cc $f.c" cc -O1 "$src/$f.c" -o "$t/$f" $(pkg-config --cflags --libs bproc) -lm
done
has 'one built so' "$("$t/roam")" '*home again'
finish
