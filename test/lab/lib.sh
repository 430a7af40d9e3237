# shellcheck shell=bash
# For the scripts of this folder, on the front end of a lab: . lib.sh
#
#   ok TEXT COMMAND...          COMMAND succeeds
#   status TEXT N COMMAND...    COMMAND's exit status is N
#   is TEXT GOT WANTED          two strings are the same
#   has TEXT STRING PATTERN     a string matches a case pattern
#   within SECONDS TEXT COMMAND...   COMMAND succeeds within the time
#   finish                      exit status of the script
failures=0
checks=0
t=${LAB_TMP:-/tmp}

good() { checks=$((checks + 1)); echo "ok - $*"; }
bad() { checks=$((checks + 1)); failures=$((failures + 1)); echo "NOT OK - $*"; }

ok() {
	local text=$1; shift
	if "$@"; then good "$text"; else bad "$text: status $? of: $*"; fi
}
status() {
	local text=$1 want=$2 got; shift 2
	"$@"
	got=$?
	if [ "$got" -eq "$want" ]; then good "$text"; else bad "$text: status $got, not $want, of: $*"; fi
}
is() {
	if [ "$2" = "$3" ]; then good "$1"; else bad "$1: got '$2', not '$3'"; fi
}
has() {
	# shellcheck disable=SC2254
	case $2 in
	$3) good "$1" ;;
	*) bad "$1: '$2' does not match '$3'" ;;
	esac
}
within() {
	local limit=$(($1 * 10)) text=$2 n=0; shift 2
	while ! "$@" >/dev/null 2>&1; do
		n=$((n + 1))
		if [ $n -gt $limit ]; then
			bad "$text: not within $((limit / 10)) s: $*"
			return
		fi
		sleep 0.1
	done
	good "$text"
}
node_is() { [ "$(bpstat -s "$1")" = "$2" ]; }
node_is_not() { [ "$(bpstat -s "$1")" != "$2" ]; }
node_of() { bpps -H -a -o node "$1" 2>/dev/null | xargs; }
lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }
alive() { kill -0 "$1" 2>/dev/null; }
dead() { ! alive "$1"; }
# Its end on a node is known there, and to bpmove, before it is here.
ends() {
	local n
	for ((n = 0; n < 50; n++)); do
		dead "$1" && return
		sleep 0.1
	done
	return 1
}
# moved NAME LAPS [OPTION...]: process $p goes round as long as it lives; it must have been at home
# again once. $laps: how often it was
moved() {
	local to
	for ((laps = 0; laps < $2; laps++)); do
		for to in 0 1 master; do
			bpmove "${@:3}" "$p" $to 2>said && continue
			ends "$p" || bad "$1, lap $laps, to $to: $(cat said)"
			[ "$laps" -gt 0 ] || bad "$1 ended in its first lap"
			return
		done
	done
	good "$1: $laps laps"
}
finish() {
	echo "$checks checks, $failures failures"
	[ "$failures" -eq 0 ]
	exit
}
