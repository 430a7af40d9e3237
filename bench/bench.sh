#!/usr/bin/env bash
# The table of ./dev bench: each row beside its peer, measured in turn (A B A B …) in the same
# run, medians with [min..max]. Runs on the front end of a lab, once with image encryption off
# and once with it on:
#
#   bench.sh off|on [RUNS [ROWS...]]
#
# ROWS: small bulk rate threads lazy live commands others born kills
#
# CRIU=/path/to/criu (4.2 or newer) adds the peer of the small rforks; without it those rows
# say so. ssh needs Debian's openssh-server and openssh-client.
set -u
mode=${1:?off or on}
runs=${2:-20}
shift $(($# < 2 ? $# : 2))
bin=${BENCH_BIN:-$(dirname "$(command -v bpsh)")}
work=$(mktemp -d /dev/shm/bproc-bench.XXXXXX) # the front end's own: images lie in memory
shared=$(mktemp -d /tmp/bproc-bench.XXXXXX)   # the nodes see it too
pids=()
cleanup() {
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
	rm -rf "$work" "$shared"
}
trap cleanup EXIT

# numbers on stdin, one a line -> "median [min..max]"
spread() {
	sort -g | awk '{v[NR]=$1} END {if (!NR) {print "no figure"; exit}
		printf "%.4g [%.4g..%.4g]", NR%2 ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2, v[1], v[NR]}'
}
# the same with what 99 of 100 are below
spread99() {
	sort -g | awk '{v[NR]=$1} END {if (!NR) {print "no figure"; exit}
		printf "%.4g p99 %.4g [%.4g..%.4g]", v[int((NR+1)/2)], v[int(NR*0.99+0.5)], v[1], v[NR]}'
}
median() { spread <"$1" | cut -d' ' -f1; }
row() { printf '%-46s %-30s %-38s %s\n' "$1" "$2" "$3" "$4"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {if (a > 0 && b > 0) printf "%.2f", a / b; else print "-"}'; }
us_of() { # microseconds that a command takes, as a whole
	local t0=$EPOCHREALTIME t1
	"$@" >/dev/null 2>>"$work/errors" || echo "failed: $*" >>"$work/errors"
	t1=$EPOCHREALTIME
	echo $(( ${t1/./} - ${t0/./} ))
}

criu_sample() { # "calls_us" of dump + restore of the same small static process
	local dir=$work/criu pid t0 t1 t2
	rm -rf "$dir"; mkdir "$dir"
	setsid "$bin/bench_rfork" wait </dev/null >/dev/null 2>&1 &
	pid=$!
	disown
	sleep 0.02
	t0=$EPOCHREALTIME
	"$CRIU" dump -t "$pid" -D "$dir" -o dump.log >/dev/null 2>&1 || return 1
	t1=$EPOCHREALTIME
	wait "$pid" 2>/dev/null
	"$CRIU" restore -D "$dir" -d -o restore.log >/dev/null 2>&1 || return 1
	t2=$EPOCHREALTIME
	{ kill -9 "$pid" && wait "$pid"; } 2>/dev/null
	echo $(( ${t2/./} - ${t0/./} ))
}

# The same with the images sent to a page server over loopback TCP, then restored. Its dump ends
# with a message on a socket that is still corked and waits for the answer, 200 ms: as it comes.
criu_page_server() { # "calls_us"
	local dir=$work/criu-ps pid server t0 t2
	rm -rf "$dir"; mkdir "$dir"
	"$CRIU" page-server --images-dir "$dir" --address 127.0.0.1 --port 9912 -o server.log \
		>/dev/null 2>&1 & server=$!
	setsid "$bin/bench_rfork" wait </dev/null >/dev/null 2>&1 &
	pid=$!
	disown
	sleep 0.1
	t0=$EPOCHREALTIME
	"$CRIU" dump -t "$pid" -D "$dir" --page-server --address 127.0.0.1 --port 9912 \
		-o dump.log >/dev/null 2>&1 || { kill "$server" "$pid"; return 1; }
	wait "$pid" "$server" 2>/dev/null
	"$CRIU" restore -D "$dir" -d -o restore.log >/dev/null 2>&1 || return 1
	t2=$EPOCHREALTIME
	{ kill -9 "$pid" && wait "$pid"; } 2>/dev/null
	echo $(( ${t2/./} - ${t0/./} ))
}

# What criu found out about the kernel it keeps in /run, if that is a tmpfs. Elsewhere it leaves a
# file behind that keeps it from doing so here.
criu_warm() {
	umount /run/criu.kdat.tmp 2>/dev/null
	rm -f /run/criu.kdat.tmp
	criu_sample >/dev/null || return 1
	[ -e /run/criu.kdat ] || echo "criu could not keep its feature cache: its rows are too slow"
}

small() {
	local a=$work/small b=$work/criu.us c=$work/criu-ps.us f=$work/floor g=$work/look
	local i ok=1 what addr server
	addr=$(bpstat -a 0 | awk '{print $NF; exit}')
	bplab exec 0 "$bin/bench_floor" recv 9913 &
	server=$!
	pids+=("$server")
	sleep 0.3
	"$bin/bench_rfork" lat 0 20 0 >/dev/null 2>&1 # warm
	: >"$a"; : >"$b"; : >"$c"; : >"$f"; : >"$g"
	if [ -n "${CRIU:-}" ]; then criu_warm || ok=0; else ok=0; fi
	for ((i = 0; i < runs; i++)); do
		"$bin/bench_rfork" lat 0 11 0 2>&1 >/dev/null | awk 'NR > 1 {print $1}' |
			sort -g | sed -n 5p >>"$a"
		"$bin/bench_floor" send "$addr" 9913 11 2>>"$work/errors" | sed 1d >"$work/floors"
		cut -d' ' -f1 "$work/floors" | sort -g | sed -n 5p >>"$f"
		cut -d' ' -f2 "$work/floors" | sort -g | sed -n 5p >>"$g"
		[ $ok = 1 ] && criu_sample >>"$b"
		[ $ok = 1 ] && criu_page_server >>"$c"
	done
	what="criu: not measured (set CRIU to criu 4.2)"
	[ $ok = 1 ] && what="criu dump+restore $(spread <"$b")"
	row "rfork, 1 MB static, encryption $mode (us)" "$(spread <"$a")" "$what" \
		"$(ratio "$(median "$b" 2>/dev/null)" "$(median "$a")") times faster"
	[ -s "$c" ] && row "" "" "criu over its page server $(spread <"$c")" \
		"$(ratio "$(median "$c")" "$(median "$a")") times faster"
	kill "$server"
	row "" "" "floor: fork, send, clone $(spread <"$f")" "$(ratio "$(median "$a")" "$(median "$f")") of it"
	row "" "" "  with a look at itself $(spread <"$g")" "$(ratio "$(median "$a")" "$(median "$g")") of it"
	"$bin/bench_rfork" first 0 "$runs" 2>&1 >/dev/null | awk '{print $1}' >"$a"
	row "the first rfork of a parent (us)" "$(spread <"$a")" "-" ""
}

# A process of 8 threads and 256 MiB, and how long it stood still by its own clock: moved, and
# dumped to criu's page server on this machine and restored.
ticking() { # its output to $1, its pid to $pid
	: >"$1"
	setsid "$bin/bench_dirty" tick 256 8 </dev/null >>"$1" 2>/dev/null &
	pid=$!
	disown
	until [ -s "$1" ]; do sleep 0.05; done
	sleep 0.2
	: >"$1"
}
stood() { # FILE: the longest stop that is told of in it, ms
	local i
	for ((i = 0; i < 100; i++)); do
		sleep 0.05
		[ -s "$1" ] && break
	done
	sort -g "$1" | awk 'END {if (NR) print $1 / 1000}'
}
stop_moved() {
	local out=$shared/ticks
	ticking "$out"
	bpmove "$pid" 0 2>>"$work/errors" && stood "$out" >>"$1"
	kill -9 "$pid"
}
stop_criu() {
	local out=$work/ticks dir=$work/criu-threads server
	rm -rf "$dir"; mkdir "$dir"
	"$CRIU" page-server --images-dir "$dir" --address 127.0.0.1 --port 9914 -o server.log \
		>/dev/null 2>&1 & server=$!
	ticking "$out"
	"$CRIU" dump -t "$pid" -D "$dir" --page-server --address 127.0.0.1 --port 9914 \
		-o dump.log >/dev/null 2>&1 && wait "$server" 2>/dev/null &&
		"$CRIU" restore -D "$dir" -d -o restore.log >/dev/null 2>&1 && stood "$out" >>"$1"
	kill -9 "$pid"
}
threads() {
	local a=$work/stop b=$work/stop-criu i what="criu: not measured (set CRIU to criu 4.2)"
	: >"$a"; : >"$b"
	[ -n "${CRIU:-}" ] && criu_warm
	for ((i = 0; i < (runs + 3) / 4; i++)); do
		"$bin/bench_dirty" warm 600
		stop_moved "$a"
		[ -n "${CRIU:-}" ] || continue
		"$bin/bench_dirty" warm 600
		stop_criu "$b"
	done
	[ -s "$b" ] && what="criu over its page server $(spread <"$b")"
	row "8 threads + 256 MiB moved, enc. $mode, still (ms)" "$(spread <"$a")" "$what" \
		"$(ratio "$(median "$b")" "$(median "$a")") times shorter"
}

rate() {
	local a=$work/rate b=$work/fork i
	for ((i = 0; i < 5; i++)); do
		"$bin/bench_rfork" rate 4 4 100 2>>"$a" >/dev/null
		"$bin/bench_rfork" fork 4 500 2>>"$b" >/dev/null
	done
	row "4 parents rforking, encryption $mode (forks/s)" "$(spread <"$a")" "fork+exit+wait $(spread <"$b")" \
		"$(ratio "$(median "$a")" "$(median "$b")") of fork"
}

# Two programs that print a figure for each line they read, in turn: A B A B … Between any two
# samples less than two seconds pass, in which free memory could go back to a host: both touch
# memory that was in use a moment ago. The first two pairs are not counted.
in_turn() { # RUNS FILE_A FILE_B; the programs' ends are fd 11 and 12, 13 and 14
	local i x y
	for ((i = -2; i < $1; i++)); do
		echo >&11 && read -r x _ <&12 || return 1
		echo >&13 && read -r y _ <&14 || return 1
		[ "$i" -lt 0 ] && continue
		echo "$x" >>"$2"
		echo "$y" >>"$3"
	done
}

bulk() {
	local f=$work/bulk g=$work/stream tls=() addr pair server i
	[ "$mode" = on ] && tls=(tls)
	addr=$(bpstat -a 0 | awk '{print $NF; exit}')
	bplab exec 0 "$bin/bench_stream" recv 9911 1024 "${tls[@]}" &
	server=$!
	pids+=("$server")
	sleep 0.3
	mkfifo "$work/a.in" "$work/a.out" "$work/b.in" "$work/b.out"
	"$bin/bench_rfork" paced 0 1024 <"$work/a.in" 2>"$work/a.out" >/dev/null &
	pids+=($!)
	"$bin/bench_stream" send "$addr" 9911 1024 "${tls[@]}" <"$work/b.in" >"$work/b.out" &
	pids+=($!)
	exec 11>"$work/a.in"
	exec 12<"$work/a.out"
	exec 13>"$work/b.in"
	exec 14<"$work/b.out"
	in_turn "$runs" "$f" "$g" || echo "bulk: a program ended" >>"$work/errors"
	exec 11>&- 12<&- 13>&- 14<&-
	kill "$server"
	pair=$(paste "$g" "$f" | awk '{print $1 / $2}' | spread)
	for i in "$f" "$g"; do awk '{print 1.073741824e6 / $1}' "$i" >"$i.rate"; done
	row "rfork with 1 GiB dirty, encryption $mode (GB/s)" "$(spread <"$f.rate")" \
		"TCP stream ${tls[0]:+in TLS 1.3 }$(spread <"$g.rate")" \
		"$(ratio "$(median "$f.rate")" "$(median "$g.rate")") of it; by pairs $pair"
}

start_sshd() {
	local d=$shared/ssh n
	mkdir -p "$d/home/.ssh" /run/sshd && chmod 700 "$d" "$d/home" "$d/home/.ssh"
	ssh-keygen -q -t ed25519 -N '' -f "$d/host" && ssh-keygen -q -t ed25519 -N '' -f "$d/id"
	cp "$d/id.pub" "$d/keys"; chmod 600 "$d/keys"
	for n in 0 1 2 3; do
		# An empty home: what a user's .bashrc does is not ssh's fault.
		bplab exec "$n" unshare -m sh -c "mkdir -p /run/sshd; mount --bind $d/home ~
			exec /usr/sbin/sshd -D -f /dev/null -p 2200 \
			-h $d/host -o AuthorizedKeysFile=$d/keys -o StrictModes=no -o UsePAM=no \
			-o PermitRootLogin=yes -o PidFile=none -o PrintMotd=no -o PrintLastLog=no \
			-o LogLevel=ERROR" & pids+=($!)
	done
	sleep 1
	ssh_opts=(-F none -p 2200 -i "$d/id" -o StrictHostKeyChecking=no -o LogLevel=ERROR
		-o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ControlPath="$d/c-%h")
}

commands() {
	local a=$work/bpsh b=$work/warm c=$work/cold a4=$work/bpsh4 b4=$work/warm4 f=$work/fork1 i n
	local addr=()
	mapfile -t addr < <(bpstat -a 0-3 | awk '{print $NF}')
	command -v sshd >/dev/null || [ -x /usr/sbin/sshd ] || { echo "ssh: not installed"; return; }
	start_sshd
	for n in 0 1 2 3; do
		ssh "${ssh_opts[@]}" -o ControlMaster=yes -fN "${addr[n]}" || echo "no ssh to n$n"
	done
	ssh4() { for n in 0 1 2 3; do ssh "${ssh_opts[@]}" "${addr[n]}" true & w[n]=$!; done
		wait "${w[@]}"; }
	# A lab's, for programs that are linked with the build tree. The loader of true would look
	# for its libraries there first; that of what sshd starts has none.
	local libs=${LD_LIBRARY_PATH-}
	unset LD_LIBRARY_PATH
	us_of bpsh 0 true >/dev/null
	for ((i = 0; i < runs; i++)); do
		us_of bpsh 0 true >>"$a"
		us_of ssh "${ssh_opts[@]}" "${addr[0]}" true >>"$b"
		us_of bpsh 0-3 true >>"$a4"
		us_of ssh4 >>"$b4"
		us_of ssh -o ControlPath=none "${ssh_opts[@]}" "${addr[0]}" true >>"$c"
		us_of /bin/true >>"$f"
	done
	row "bpsh NODE true (us)" "$(spread <"$a")" "warm ssh $(spread <"$b")" \
		"$(ratio "$(median "$a")" "$(median "$b")") of warm"
	row "" "" "cold ssh $(spread <"$c")" "$(ratio "$(median "$c")" "$(median "$a")") times faster"
	row "" "" "local fork+exec $(spread <"$f")" ""
	row "bpsh 4 NODES true (us)" "$(spread <"$a4")" "4 warm ssh $(spread <"$b4")" \
		"$(ratio "$(median "$a4")" "$(median "$b4")") of warm"
	for n in 0 1 2 3; do ssh "${ssh_opts[@]}" -O exit "${addr[n]}" 2>/dev/null; done
	[ -z "$libs" ] || export LD_LIBRARY_PATH=$libs
}

others() {
	local a=$work/sig h=$work/here m=$work/moved i
	"$bin/bench_signal" 0 "$runs" 2>"$a"
	row "kill -TERM to the remote handler (us)" "$(spread <"$a")" "-" ""
	for ((i = 0; i < 7; i++)); do
		"$bin/bench_loop" here >>"$h"
		"$bin/bench_loop" 0 >>"$m"
	done
	row "CPU of a compute loop, moved (s)" "$(cut -d' ' -f1 "$m" | spread)" \
		"at home $(cut -d' ' -f1 "$h" | spread)" \
		"$(ratio "$(median <(cut -d' ' -f1 "$m"))" "$(median <(cut -d' ' -f1 "$h"))") of it"
	row "CPU of a writing loop, moved (s)" "$(cut -d' ' -f2 "$m" | spread)" \
		"at home $(cut -d' ' -f2 "$h" | spread)" \
		"$(ratio "$(median <(cut -d' ' -f2 "$m"))" "$(median <(cut -d' ' -f2 "$h"))") of it"
}

# What the filter of a node costs, in nanoseconds of a call.
kills() {
	local a=$work/kills
	"$bin/bench_kill" "$runs" 2>"$a"
	of() { awk -v n="$1" '$1 == n {print $2}' "$a"; }
	row "getppid on a node (ns)" "$(of node.getppid | spread)" \
		"at home, without the filter $(of home.getppid | spread)" ""
	row "kill of what was born on the node (ns)" "$(of node.kill | spread)" \
		"at home, without the filter $(of home.kill | spread)" ""
	row "kill of another that is there (ns)" "$(of node.asked | spread)" "" ""
	row "kill of a process on another node (ns)" "$(of node.far | spread)" "" ""
}

born() {
	local b=$work/born e=$work/ends r=$work/forks c=$work/crowd pairs
	"$bin/bench_born" birth 0 "$((runs * 10))" 2>"$b" || echo "births not seen" >>"$work/errors"
	"$bin/bench_born" exit 0 "$((runs * 10))" 2>"$e"
	"$bin/bench_born" rate 0 "$((runs * 2))" 2>"$r"
	pairs=$(awk '{print $1 / $2}' "$r" | spread)
	"$bin/bench_crowd" 0 10000 memory >"$c" 2>>"$work/errors"
	row "birth on a node to its ghost at home (us)" "$(spread99 <"$b")" "-" ""
	row "exit on a node to waitpid at home (us)" "$(spread99 <"$e")" "-" ""
	row "forks a second on a node" "$(cut -d' ' -f1 "$r" | spread)" \
		"bpslave stopped $(cut -d' ' -f2 "$r" | spread)" \
		"$(ratio "$(median <(cut -d' ' -f1 "$r"))" "$(median <(cut -d' ' -f2 "$r"))") of it; by pairs $pairs"
	sed 's/^/10,000 processes of a node: /' "$c"
}

# A program that says what it has seen of its moves (bench_follow.c), and the next line of it
follow() { # MODE MIB [RATE]
	: >"$work/seen"
	"$bin/bench_follow" "$@" >"$work/seen" 2>>"$work/errors" </dev/null &
	follows=$!
	pids+=("$follows")
	line=0
	seen
}
seen() {
	local i
	line=$((line + 1))
	for ((i = 0; i < 600; i++)); do
		[ "$(wc -l <"$work/seen")" -ge $line ] && break
		sleep 0.05
	done
	sed -n "${line}p" "$work/seen"
}
# FILE [FLAG]: to node 0, what it has seen of that to the file, and home again
there_and_back() {
	bpmove ${2:+"$2"} "$follows" 0 2>>"$work/errors"
	seen >>"$1"
	bpmove "$follows" master 2>>"$work/errors"
	seen >/dev/null
}
column() { cut -d' ' -f"$1" "$2"; }

unfollow() { { kill -9 "$follows" && wait "$follows"; } 2>/dev/null; }

# by_turns PLAIN OTHER OPTION: figures of plain moves and of those with the option to two files
by_turns() {
	local i
	there_and_back /dev/null
	for ((i = 0; i < 3; i++)); do
		there_and_back "$1"
		there_and_back "$2" "$3"
	done
}

lazy() {
	local p=$work/plain l=$work/lazy f=$work/faults i pairs
	follow gap 1024 >/dev/null
	by_turns "$p" "$l" --lazy
	unfollow
	follow faults 1024 >/dev/null
	for ((i = 0; i < 3; i++)); do there_and_back "$f" --lazy; done
	unfollow
	pairs=$(paste -d' ' "$l" "$p" | awk '{print $2 / $4}' | spread)
	row "bpmove --lazy, 1 GiB, encryption $mode: gap (us)" "$(column 1 "$l" | spread)" \
		"plain $(column 1 "$p" | spread)" ""
	row "  until all is there (us)" "$(column 2 "$l" | spread)" "" "of plain, by pairs $pairs"
	row "  a fault, the median of 200 (us)" "$(column 3 "$f" | spread)" "-" ""
}

live() {
	local p=$work/plain-live l=$work/live
	follow write 1024 20 >/dev/null
	by_turns "$p" "$l" --live
	unfollow
	row "bpmove --live, 1 GiB, 20 MB/s, enc. $mode: gap (us)" "$(column 1 "$l" | spread)" \
		"plain $(column 1 "$p" | spread)" ""
}

rows=("$@")
[ ${#rows[@]} -gt 0 ] || rows=(small bulk rate threads lazy live)
[ $# -eq 0 ] && [ "$mode" = on ] && rows+=(commands others born kills)
[ "$mode" = off ] && row "work" "ours: median [min..max]" "peer" ""
for r in "${rows[@]}"; do
	case $r in
	small | bulk | rate | threads | lazy | live | commands | others | born | kills) "$r" ;;
	*) echo "bench: no rows named $r" >&2; exit 2 ;;
	esac
done
[ -s "$work/errors" ] && { echo "errors:"; sort "$work/errors" | uniq -c | head; exit 1; }
exit 0
