#!/usr/bin/env bash
# Programs that were never written for it, taken in the middle of their work and put
# back: $1 vmadump, $2 the directory of the test programs.
bin=$2
tests=$(dirname "$(readlink -f "$0")")
# shellcheck source=/dev/null
. "$tests/vmadump_lib.sh"

count='import sys, time
def numbers():
    n = 0
    while True:
        yield n
        n += 1
log = open("python.log", "a+")
for n in numbers():
    if n == 150: break
    print(n * n, flush=True)
    log.write("%d\n" % n)
    time.sleep(0.01)
log.flush(); log.seek(0)
print(sum(int(l) for l in log), "python ok")'
for ((i = 0; i < 150; i++)); do echo $((i * i)); done >want
echo "11175 python ok" >>want
carried python 20 want python3 -u -c "$count"

for ((i = 1; i <= 150; i++)); do echo $((i * 3)); done >want
echo "perl ok" >>want
# shellcheck disable=SC2016
carried perl 20 want perl -e '
	$| = 1; my %h; $SIG{ALRM} = sub { $h{ticks}++ };
	use Time::HiRes qw(setitimer ITIMER_REAL sleep); setitimer(ITIMER_REAL, 0.02, 0.02);
	for my $i (1 .. 150) { $h{$i} = $i * 3; print "$h{$i}\n"; sleep(0.01); }
	print "perl ", ($h{ticks} > 5 && keys %h == 151 ? "ok" : "wrong"), "\n";'

for ((i = 0; i < 40000; i += 400)); do echo $i; done >want
echo "799980000 40000 bash ok" >>want
# shellcheck disable=SC2016
carried bash 5 want bash -c '
	a=(); s=0
	trap "t=1" USR1
	for ((i = 0; i < 40000; i++)); do
		a[i]=$i; ((s += i))
		((i % 400 == 0)) && { echo $i; read -t 0.01 </dev/zero -N 0; }
	done
	echo $s ${#a[@]} bash ok'

for ((i = 0; i < 400; i++)); do echo tick; done >want
echo "asm ok" >>want
carried asm 20 want "$bin/test_vmadump_asm"

for ((i = 0; i < 300; i++)); do echo $i; done >want
echo "threads ok" >>want
carried threads 30 want "$bin/test_vmadump_threads" 300
carried threads_static 30 want "$bin/test_vmadump_threads_static" 300

for ((i = 0; i < 250; i++)); do echo $i; done >want
cp want want.log
echo "files ok" >>want
carried files 30 want "$bin/test_vmadump_files" 250
cmp log want.log || fail 'its log is not what it should be'

# What few do, where this machine can.
for ((i = 0; i < 150; i++)); do echo $i; done >want
echo "odd ok" >>want
for what in zmm int80; do
	"$bin/test_vmadump_odd" $what 0 >/dev/null
	case $? in
	0) carried odd 20 want "$bin/test_vmadump_odd" $what 150 ;;
	77) echo "skipped: this machine has no $what" ;;
	*) fail "$what: $?" ;;
	esac
done

for ((i = 0; i < 100; i++)); do echo $i; done >want.nnp
echo "odd ok" >>want.nnp
carried nnp.out 5 want.nnp "$bin/test_vmadump_odd" nnp 100
sed 's/odd/more/' want.nnp >want.more
carried more.out 5 want.more "$bin/test_vmadump_more" 100
carried ticks.out 5 want.nnp "$bin/test_vmadump_odd" ticks 100

# Dumped again and again, so that it sleeps for what is left of a sleep, or has just begun the next
# one: its registers are all of one moment.
if "$bin/test_vmadump_odd" zmm 0 >/dev/null; then
	for ((i = 0; i < 6; i++)); do
		start odd "$bin/test_vmadump_odd" zmm 60
		lines odd 3
		for ((k = 0; k < 6; k++)); do
			"$vmadump" dump "$pid" odd.image || fail "odd: dump $k"
		done
		"$vmadump" dump -k "$pid" odd.image || fail 'odd: dump -k'
		gone "$pid"
		(close_fds; exec "$vmadump" restore odd.image </dev/null) || fail "odd, again and again: $?"
	done
fi

# xz compresses one file to another: the same bytes as without.
{ seq 1 300000; cat "$vmadump" "$bin/test_vmadump_threads_static"; seq 7 7 2100000; } >plain
start xz xz -4 -k -T1 plain
for ((i = 0; i < 200 && $(stat -c %s plain.xz 2>/dev/null || echo 0) < 100000; i++)); do
	sleep 0.01
done
"$vmadump" dump -k "$pid" image || fail 'xz: dump'
gone "$pid"
(close_fds; exec "$vmadump" restore image </dev/null) || fail "xz: ended with $?"
xz -4 -T1 <plain | cmp - plain.xz || fail 'xz: other bytes'

# -- as a stream, under another pid, stopped, and looked at
start out bash -c 'for ((i = 0; i < 100; i++)); do echo $i; sleep 0 & wait; done'
lines out 3
kill -STOP "$pid"
"$vmadump" dump "$pid" - | "$vmadump" info - >said || fail "info of a stream"
grep -q "^process: $pid\$" said || fail "info: $(cat said)"
case $(ps -o stat= -p "$pid") in T*) ;; *) fail 'a stopped process was set going' ;; esac
kill -9 "$pid"
gone "$pid"

start out perl -e '$| = 1; for (1 .. 100) { print "$_\n"; select undef, undef, undef, 0.01 }'
lines out 10
"$vmadump" dump --stop "$pid" image || fail 'dump --stop'
for ((i = 0; i < 100; i++)); do
	case $(ps -o stat= -p "$pid") in T*) break ;; esac
	sleep 0.02
done
[ "$i" -lt 100 ] || fail '--stop does not stop'
n=$(wc -l <out)
(close_fds; exec "$vmadump" restore --new-pid image) || fail 'restore --new-pid'
[ "$(wc -l <out)" -eq 100 ] || fail "--new-pid: $(wc -l <out) lines after $n"
"$vmadump" restore image 2>said && fail 'restored under a pid that is in use'
grep -qF "process id $pid is in use" said || fail "in use: $(cat said)"
kill -CONT "$pid"
gone "$pid"

# -- clean pages are named, and a debugger finds them; with --all they are in it
start out sleep 60
for ((i = 0; i < 500; i++)); do
	case $(cat "/proc/$pid/syscall") in 230\ * | 35\ *) break ;; esac # it sleeps
	sleep 0.01
done
exe=$(readlink "/proc/$pid/exe")
"$vmadump" dump "$pid" named || fail 'sleep: dump'
"$vmadump" dump --all "$pid" all || fail 'sleep: dump --all'
[ "$(may_run "$pid")" = "$(may_run $$)" ] || fail "it may run on $(may_run "$pid") only"
kill -9 "$pid"
gone "$pid"
[ $((4 * $(stat -c %s named))) -lt "$(stat -c %s all)" ] || fail "named $(stat -c %s named), all $(stat -c %s all) bytes"
readelf -lW named 2>said >/dev/null && [ ! -s said ] || fail "readelf: $(cat said)"
if command -v gdb >/dev/null; then
	for i in named all; do
		gdb -nx -batch -ex 'x/i $pc' "$exe" "$i" >gdb 2>&1
		grep -q '^=> 0x' gdb || fail "gdb, $i: $(cat gdb)"
	done
fi
(close_fds; exec "$vmadump" restore -d named </dev/null) >said || fail 'sleep: restore'
[ "$(may_run "$pid")" = "$(may_run $$)" ] || fail "restored, it may run on $(may_run "$pid") only"
was=$(readlink "/proc/$pid/exe")
[ "$was" = "$exe" ] || fail "restored, /proc/PID/exe is $was"
kill -9 "$pid"

"$vmadump" info -l image >said || fail 'info -l'
grep -q '^1 *file .*/out$' said && grep -q '[0-9a-f]* /.*/perl' said || fail "info -l: $(cat said)"
head -c 30000 image >image.cut
"$vmadump" check image.cut 2>said && fail 'a cut image passes check'
grep -q 'cut short' said || fail "check: $(cat said)"
"$vmadump" restore image.cut 2>said && fail 'a cut image is restored'
grep -q 'cut short' said || fail "restore: $(cat said)"
# -- of another kind of machine (183 is ARM's): said before anything is made of it
python3 "$tests/vmadump_forge.py" machine 183 image other
for i in check info restore; do
	"$vmadump" $i other >said 2>&1 && fail "$i: the image of another machine"
	grep -q '^vmadump: other: the image is of machine type 183, this is 62' said || fail "$i: $(cat said)"
done
# -- of a processor that can more, or has registers in use that this one has not: the same
xop='feature 11 needs CPU feature xop (CPUID 80000001), absent here'
grep -qw xop /proc/cpuinfo && xop=
for lacks in "$xop" 'component 19 has xsave component 19, absent or laid out otherwise in this CPU'; do
	read -r what number text <<<"$lacks"
	[ -n "$what" ] || continue
	python3 "$tests/vmadump_forge.py" "$what" "$number" image other
	for i in check restore; do
		"$vmadump" $i other >said 2>&1 && fail "$i: $what $number"
		grep -qF "vmadump: other: the image $text" said || fail "$what: $(cat said)"
	done
done
# -- on a machine that was started anew: its clocks are behind, and never go back
# shellcheck disable=SC2016
start out perl -e '$| = 1; use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);
	for (1 .. 60) { printf "%d\n", clock_gettime(CLOCK_MONOTONIC); select undef, undef, undef, 0.01 }'
lines out 10
"$vmadump" dump -k "$pid" image || fail 'clocks: dump'
gone "$pid"
python3 "$tests/vmadump_forge.py" clocks 1000000 image later
if unshare -T true 2>/dev/null; then
	(close_fds; exec "$vmadump" restore later </dev/null) || fail 'clocks: restore'
	sort -nc out || fail 'clocks: one went back'
	[ $(($(tail -n 1 out) - $(head -n 1 out))) -ge 1000000 ] || fail 'clocks: not as in the image'
	[ "$(wc -l <out)" -eq 60 ] || fail 'clocks: lines'
else
	"$vmadump" restore later 2>said && fail 'clocks: restored'
	grep -q 'clocks would go back by' said || fail "clocks: $(cat said)"
fi
# -- on a machine whose kernel has another vdso: what is called by address there is led to its own
# shellcheck disable=SC2016
start out perl -e '$| = 1; use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC time);
	for (1 .. 60) { printf "%.6f\n", clock_gettime(CLOCK_MONOTONIC) + 0 * time; select undef, undef, undef, 0.01 }
	open(M, "<", "/proc/self/maps"); print grep { /\[vdso\]/ } <M>'
lines out 10
was=$(grep 'vdso' "/proc/$pid/maps" | cut -d- -f1)
"$vmadump" dump -k "$pid" image || fail 'vdso: dump'
gone "$pid"
python3 "$tests/vmadump_forge.py" vdso 4711 image other
(close_fds; exec "$vmadump" restore other </dev/null) &
child=$!
lines out 25
"$vmadump" dump -k "$pid" again || fail 'vdso: dump of one that has it'
wait "$child"
(close_fds; exec "$vmadump" restore again </dev/null) || fail "vdso: ended with $?"
head -n 60 out | sort -nc || fail 'vdso: a clock went back'
now=$(sed -n 61p out | cut -d- -f1)
[ -n "$now" ] && [ "$now" != "$was" ] || fail "vdso: at $was and at $now: $(tail -n 2 out)"
:
