#!/usr/bin/env bash
# bench_dump.sh [RUNS]: vmadump beside criu (CRIU=/path/to/criu, 4.2 or newer), in turn, on
# the same processes; images lie on a tmpfs. Medians with [min..max]. As root, on a machine
# that does nothing else; ./dev bench runs it.
set -u
# criu keeps what it knows of the kernel on /run, if that is a tmpfs: a private one, warm.
if [ -z "${BENCH_DUMP_INSIDE:-}" ]; then
	exec env BENCH_DUMP_INSIDE=1 unshare -m --propagation private \
		bash -c 'mount -t tmpfs none /run && exec "$0" "$@"' "$0" "$@"
fi
runs=${1:-20}
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

clock() { echo "${EPOCHREALTIME/./}"; }

# dump and restore of one process: microseconds of each to files $1.dump, $1.restore
ours() {
	local t0 t1 t2
	t0=$(clock)
	"$bin/vmadump" dump -k "$pid" "$work/image" || return
	t1=$(clock)
	wait "$pid" 2>/dev/null
	t2=$(clock)
	"$bin/vmadump" restore -d "$work/image" >/dev/null || return
	echo $(($(clock) - t2)) >>"$work/$1.restore"
	echo $((t1 - t0)) >>"$work/$1.dump"
}
criu_() {
	local t0 t1 t2
	[ -x "${CRIU:-}" ] || return
	rm -rf "$work/criu"
	mkdir "$work/criu"
	t0=$(clock)
	"$CRIU" dump -t "$pid" -D "$work/criu" -o log >/dev/null 2>&1 || return
	t1=$(clock)
	wait "$pid" 2>/dev/null
	t2=$(clock)
	"$CRIU" restore -d -D "$work/criu" -o log2 >/dev/null 2>&1 || return
	echo $(($(clock) - t2)) >>"$work/$1.restore"
	echo $((t1 - t0)) >>"$work/$1.dump"
}
sums() { paste -d+ "$1.dump" "$1.restore" 2>/dev/null | bc | awk '{print $1 / 1000}'; }

pair() { # NAME RUNS COMMAND...
	local name=$1 n=$2 i
	shift 2
	for ((i = 0; i < n; i++)); do
		victim "$@"
		paused
		ours "$name.ours"
		end
		victim "$@"
		paused
		criu_ "$name.criu"
		end
	done
}

printf '%-42s %-28s %-28s %s\n' 'what' 'vmadump' 'criu' 'criu / vmadump'
pair tiny 2 "$bin/bench_rfork" wait # warm
rm -f "$work"/tiny.*
pair tiny "$runs" "$bin/bench_rfork" wait
sums "$work/tiny.ours" >"$work/a"
sums "$work/tiny.criu" >"$work/b"
row '  its dump alone, ms' "$(awk '{print $1 / 1000}' "$work/tiny.ours.dump" | spread)" \
	"$(awk '{print $1 / 1000}' "$work/tiny.criu.dump" | spread)" ''
row 'dump + restore, 1 MB static, ms' "$(spread <"$work/a")" "$(spread <"$work/b")" \
	"$(ratio "$(median "$work/b")" "$(median "$work/a")")"

for mib in 256 1024; do
	n=$((mib > 256 ? 3 : 6))
	for ((i = 0; i < n; i++)); do # the same bytes from warm memory
		"$bin/bench_dirty" write "$mib" "$work/plain" >>"$work/write.$mib"
		rm -f "$work/plain" "$work/image"
	done
	pair "big$mib" "$n" "$bin/bench_dirty" hold "$mib"
	for who in ours criu; do
		awk -v m="$mib" '{print m * 1048.576 / $1}' "$work/big$mib.$who.dump" >"$work/rate.$who" 2>/dev/null
	done
	row "dump of $mib MiB dirty, GB/s" "$(spread <"$work/rate.ours")" "$(spread <"$work/rate.criu")" \
		"$(ratio "$(median "$work/rate.ours")" "$(median "$work/rate.criu")") x criu"
	row "  of a plain write, GB/s" "$(spread <"$work/write.$mib")" '' \
		"$(ratio "$(median "$work/rate.ours")" "$(median "$work/write.$mib")") of it"
done

victim python3 -c 'import time; time.sleep(1000)'
sleep 0.5
"$bin/vmadump" dump "$pid" "$work/image"
rm -rf "$work/criu"
mkdir "$work/criu"
[ -x "${CRIU:-}" ] && "$CRIU" dump -R -t "$pid" -D "$work/criu" -o /dev/null >/dev/null 2>&1
end
a=$(stat -c %s "$work/image")
b=$(du -bcs "$work/criu"/*.img 2>/dev/null | awk 'END {print $1}')
row 'image of a fresh python3, bytes' "$a" "${b:-no figure}" "$(ratio "${b:-0}" "$a")"
