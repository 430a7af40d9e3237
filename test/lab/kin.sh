# shellcheck shell=bash
# The family of kin.c, in $t/kin: for the tests that move it. . kin.sh
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/lib.sh"

count() { cat kin/count 2>/dev/null || echo 0; }
beyond() { [ "$(count)" -gt "$1" ]; }
# goes_on TEXT: it still works
goes_on() {
	within 30 "$1" beyond "$(count)"
}
# family MB KIND: $p is its first process, $child and $grand are the others
family() {
	rm -rf kin
	mkdir kin
	"$LAB_PROGRAMS/kin_$2" kin "$1" >kin/out 2>&1 &
	p=$!
	within 30 'the family works' beyond 0
	child=$(pgrep -P "$p")
	grand=$(pgrep -P "$child")
}
family_ends() {
	touch kin/stop
	wait "$p"
	is "$1: the family ends with 0" $? 0
	is "$1: it has lost nothing" "$(cat kin/out)" 'kin ok'
}
# where they are: "0 0 0"; at home nobody is in the table, or -1
nodes_of() {
	local pid at
	for pid in "$p" "$child" "$grand"; do
		at=$(node_of "$pid")
		printf '%s ' "${at:--1}"
	done
}
