# Sourced by the shell tests of vmadump; $1 is the vmadump command. Programs that know
# nothing of it run with nothing open but 0, 1 and 2.
set -u
vmadump=$1
dir=$(mktemp -d "${TMPDIR:-/tmp}/vmadump-test-XXXXXX")
here=$PWD
cd "$dir" || exit 1
pids=()
failed=0

fail() { echo "FAILED: $*" >&2; failed=1; }

# Who has ended is not named by its number any more, which may be anybody's by now: what is to be
# ended, restored or not, is here.
finish() {
	local p
	for p in "${pids[@]:-}"; do
		[ -n "$p" ] && [ "/proc/$p/cwd" -ef "$dir" ] && kill -9 "$p" 2>/dev/null
	done
	cd "$here" || :
	rm -rf "$dir"
	exit "$failed"
}
trap finish EXIT

close_fds() {
	local f
	for f in $(ls "/proc/$BASHPID/fd"); do
		[ "$f" -gt 2 ] && eval "exec $f>&-"
	done
}

# start FILE COMMAND...: in the background, its output to FILE; its pid is in $pid
start() {
	local out=$1
	shift
	: >"$out"
	(close_fds; exec "$@" </dev/null >"$out" 2>"$out.err") &
	pid=$!
	pids+=("$pid")
}

# lines FILE N: waits until FILE has N lines
lines() {
	local i
	for ((i = 0; i < 600; i++)); do
		[ "$(wc -l <"$1")" -ge "$2" ] && return 0
		sleep 0.05
	done
	fail "$1 never had $2 lines: $(tail -n 3 "$1" "$1.err")"
	return 1
}

# The processors that a process may run on.
may_run() { sed -n 's/^Cpus_allowed_list:.//p' "/proc/$1/status"; }

# The pid is free again when its parent, this shell, has reaped it.
gone() { wait "$1" 2>/dev/null; }

# What vmadump is told besides: -t where programs have children.
dump_flags=()

# carried FILE LINES WANT COMMAND...: runs it, takes it when FILE has LINES lines, once
# going on and once for good, puts it back; what it writes must be WANT's contents, and
# it must end with 0
carried() {
	local out=$1 n=$2 want=$3 rc
	shift 3
	start "$out" "$@"
	lines "$out" "$n" || return
	"$vmadump" dump "${dump_flags[@]}" "$pid" "$out.first" || { fail "$out: dump"; return; }
	lines "$out" $((n + 2)) || return
	"$vmadump" dump "${dump_flags[@]}" --kill "$pid" "$out.image" || { fail "$out: dump --kill"; return; }
	gone "$pid"
	"$vmadump" check "$out.image" || fail "$out: check"
	cp "$out" "$out.then"
	sleep 0.1
	cmp -s "$out" "$out.then" || fail "$out: it writes although it is gone"
	(close_fds; exec "$vmadump" restore "$out.image" </dev/null >"$out.restored" 2>&1)
	rc=$?
	[ "$rc" -eq 0 ] || fail "$out: ended with $rc: $(cat "$out.restored" "$out.err")"
	cmp "$out" "$want" || fail "$out: its output is not what it should be"
}

# refused TEXT COMMAND...: a process that says "ready" and cannot be taken; it lives on
refused() {
	local text=$1
	shift
	start refused "$@"
	lines refused 1 || return
	if "$vmadump" dump "${dump_flags[@]}" "$pid" image 2>said; then
		fail "not refused: $text"
	elif ! grep -qF -- "$text" said; then
		fail "refused, but not with '$text': $(cat said)"
	fi
	kill -0 "$pid" 2>/dev/null || fail "a refusal killed it ($text)"
	[ -e image ] && fail "a refusal left an image ($text)"
	grep -q '^3000000[0-9a-f]*-' "/proc/$pid/maps" && fail "a refusal left the blob ($text)"
	kill -9 "$pid" 2>/dev/null
	gone "$pid"
}
