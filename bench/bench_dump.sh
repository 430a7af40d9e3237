#!/usr/bin/env bash
# bench_dump.sh [RUNS [PART...]]: vmadump beside criu (CRIU=/path/to/criu, 4.2 or newer), in
# turn, on the same processes; images lie on a tmpfs. Medians with [min..max]. As root, on a
# machine that does nothing else; ./dev bench runs it. Parts: tiny, big256, big1024, threads,
# many, python; all of them if none is named.
set -u
# criu keeps what it knows of the kernel on /run, if that is a tmpfs: a private one, warm.
if [ -z "${BENCH_DUMP_INSIDE:-}" ]; then
	exec env BENCH_DUMP_INSIDE=1 unshare -m --propagation private \
		bash -c 'mount -t tmpfs none /run && exec "$0" "$@"' "$0" "$@"
fi
runs=${1:-20}
[ $# -gt 0 ] && shift
parts=${*:-tiny big256 big1024 threads many python}
bin=${BENCH_BIN:-$(dirname "$(command -v vmadump)")}
work=$(mktemp -d /dev/shm/vmadump-bench.XXXXXX)
trap 'rm -rf "$work"' EXIT
exec 2>"$work/errors" # bash tells of each process that was killed
for f in "/proc/$$/fd"/*; do # an inherited descriptor is not what is measured
	f=${f##*/}
	[ "$f" -gt 2 ] && [ "$f" -ne 255 ] && eval "exec $f>&-"
done

spread() {
	sort -g | awk '{v[NR]=$1} END {if (!NR) {print "no figure"; exit}
		printf "%.4g [%.4g..%.4g]", NR%2 ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2, v[1], v[NR]}'
}
median() { [ -s "$1" ] && spread <"$1" | cut -d' ' -f1; }
ratio() { awk -v a="${1:-0}" -v b="${2:-0}" 'BEGIN {if (a > 0 && b > 0) printf "%.2f", a / b; else print "-"}'; }
row() { printf '%-42s %-28s %-28s %s\n' "$1" "$2" "$3" "$4"; }

# victim COMMAND...: started as a daemon would be; its pid in $pid
victim() {
	setsid "$@" </dev/null >/dev/null 2>&1 &
	pid=$!
	sleep 0.02
}
paused() { # it has done all that it does before its pause()
	local i
	for ((i = 0; i < 1000; i++)); do
		[[ $(cat "/proc/$pid/syscall" 2>/dev/null) == 34\ * ]] && return
		sleep 0.01
	done
}
end() { { kill -9 "$pid" && wait "$pid"; } 2>/dev/null; }

# Memory that the host took back costs ten times as much to touch: whoever comes first pays.
warm() { [ "$1" -gt 0 ] && "$bin/bench_dirty" warm "$1"; }
timed() { "$bin/bench_dirty" time "$@"; }

# dump and restore of one process: microseconds of each to files $1.dump, $1.restore; before
# each, $2 MiB are warmed
ours() {
	warm "$2"
	rm -f "$work/image" # as criu's: who replaces a file pays for its end
	timed "$work/$1.dump" "$bin/vmadump" dump -k "$pid" "$work/image" || return
	wait "$pid" 2>/dev/null
	warm "$2"
	timed "$work/$1.restore" "$bin/vmadump" restore -d "$work/image" >/dev/null
}
criu_() {
	[ -x "${CRIU:-}" ] || return
	rm -rf "$work/criu"
	mkdir "$work/criu"
	warm "$2"
	timed "$work/$1.dump" "$CRIU" dump -t "$pid" -D "$work/criu" -o log >/dev/null 2>&1 || return
	wait "$pid" 2>/dev/null
	warm "$2"
	timed "$work/$1.restore" "$CRIU" restore -d -D "$work/criu" -o log2 >/dev/null 2>&1
}
ms() { awk '{print $1 / 1000}' "$1"; }
sums() { paste "$1.dump" "$1.restore" 2>/dev/null | awk 'NF == 2 {print ($1 + $2) / 1000}'; }

pair() { # NAME RUNS MIB COMMAND...
	local name=$1 n=$2 mib=$3 i
	shift 3
	for ((i = 0; i < n; i++)); do
		victim "$@"
		paused
		ours "$name.ours" "$mib"
		end
		victim "$@"
		paused
		criu_ "$name.criu" "$mib"
		end
	done
}
both() { # NAME LABEL: dump, restore and their sum, in ms
	local w=$work/$1
	row "$2: dump, ms" "$(ms "$w.ours.dump" | spread)" "$(ms "$w.criu.dump" | spread)" \
		"$(ratio "$(median "$w.criu.dump")" "$(median "$w.ours.dump")")"
	row "  restore, ms" "$(ms "$w.ours.restore" | spread)" "$(ms "$w.criu.restore" | spread)" \
		"$(ratio "$(median "$w.criu.restore")" "$(median "$w.ours.restore")")"
	sums "$w.ours" >"$work/a"
	sums "$w.criu" >"$work/b"
	row "  dump + restore, ms" "$(spread <"$work/a")" "$(spread <"$work/b")" \
		"$(ratio "$(median "$work/b")" "$(median "$work/a")")"
}

tiny() {
	pair tiny 2 0 "$bin/bench_rfork" wait # criu's cache of the kernel, and the page cache
	rm -f "$work"/tiny.*
	pair tiny "$runs" 0 "$bin/bench_rfork" wait
	both tiny "1 MB static"
}

big() { # MIB: beside a plain write of the same bytes to the same tmpfs
	local mib=$1 i w=$work/big$1 who
	for ((i = 0; i < (runs + 3) / 4; i++)); do
		"$bin/bench_dirty" write "$mib" "$work/plain" >>"$w.write"
		rm -f "$work/plain" "$work/image"
		pair "big$mib" 1 $((mib + 256)) "$bin/bench_dirty" hold "$mib"
		rm -rf "$work/criu"
	done
	for who in ours criu; do
		awk -v m="$mib" '{print m * 1048576 / 1000 / $1}' "$w.$who.dump" >"$w.$who.rate"
	done
	row "dump of $mib MiB dirty, GB/s" "$(spread <"$w.ours.rate")" "$(spread <"$w.criu.rate")" \
		"$(ratio "$(median "$w.ours.rate")" "$(median "$w.criu.rate")") x criu"
	row "  a plain write, GB/s" "$(spread <"$w.write")" '' \
		"$(ratio "$(median "$w.ours.rate")" "$(median "$w.write")") of it"
	row "  restore, ms" "$(ms "$w.ours.restore" | spread)" "$(ms "$w.criu.restore" | spread)" \
		"$(ratio "$(median "$w.criu.restore")" "$(median "$w.ours.restore")")"
}

threads() {
	pair threads $(((runs + 3) / 4)) 512 "$bin/bench_dirty" hold 256 8
	both threads "8 threads + 256 MiB"
}

many() { # what a thread adds, and that it is the same for each
	local n
	for n in 1 250 500 1000; do
		pair "many$n" $(((runs + 3) / 4)) 0 "$bin/bench_dirty" hold 1 "$n"
		[ "$n" -gt 1 ] || continue
		both "many$n" "$n threads"
		for what in dump restore; do
			row "  a thread's $what, us" \
				"$(awk -v n="$n" -v one="$(median "$work/many1.ours.$what")" '{print ($1 - one) / (n - 1)}' "$work/many$n.ours.$what" | spread)" \
				"$(awk -v n="$n" -v one="$(median "$work/many1.criu.$what")" '{print ($1 - one) / (n - 1)}' "$work/many$n.criu.$what" 2>/dev/null | spread)" ''
		done
	done
}

python() {
	local a b i how
	victim python3 -c 'import time; time.sleep(1000)'
	sleep 0.5
	"$bin/vmadump" dump "$pid" "$work/image"
	"$bin/vmadump" dump -z "$pid" "$work/image.z"
	rm -rf "$work/criu"
	mkdir "$work/criu"
	[ -x "${CRIU:-}" ] && "$CRIU" dump -R -t "$pid" -D "$work/criu" -o /dev/null >/dev/null 2>&1
	end
	a=$(stat -c %s "$work/image")
	b=$(du -bcs "$work/criu"/*.img 2>/dev/null | awk 'END {print $1}')
	row 'image of a fresh python3, bytes' "$a" "${b:-no figure}" "$(ratio "${b:-0}" "$a")"
	row '  compressed: dump -z; criu | zstd -1' "$(stat -c %s "$work/image.z")" \
		"$([ -n "$b" ] && cat "$work/criu"/*.img | zstd -1q | wc -c)" \
		"$(ratio "${b:-0}" "$(stat -c %s "$work/image.z")") x plain criu"
	for ((i = 0; i < runs; i++)); do
		[ $((i % 2)) -eq 0 ] && how='' || how=z
		victim python3 -c 'import time; time.sleep(1000)'
		sleep 0.2
		rm -f "$work/image"
		timed "$work/python$how.dump" "$bin/vmadump" dump -v${how:+"$how"} "$pid" "$work/image" 2>"$work/said"
		sed -n 's/.*stopped for \(.*\) ms/\1/p' "$work/said" >>"$work/python$how.still"
		"$bin/vmadump" dump -k${how:+"$how"} "$pid" "$work/image"
		wait "$pid" 2>/dev/null
		timed "$work/python$how.restore" "$bin/vmadump" restore -d "$work/image" >/dev/null
		kill -9 "$pid"
	done
	row '  plain: dump; stopped; restore, ms' "$(ms "$work/python.dump" | spread)" \
		"$(spread <"$work/python.still")" "$(ms "$work/python.restore" | spread)"
	row '  -z: dump; stopped; restore, ms' "$(ms "$work/pythonz.dump" | spread)" \
		"$(spread <"$work/pythonz.still")" "$(ms "$work/pythonz.restore" | spread)"
}

row 'what' 'vmadump' 'criu' 'criu / vmadump'
for part in $parts; do
	case $part in
	tiny | threads | many | python) $part ;;
	big*) big "${part#big}" ;;
	esac
done
