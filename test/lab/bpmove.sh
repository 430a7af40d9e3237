#!/bin/bash
# bpmove: programs that were never written for it go home -> n0 -> n1 -> home, ten times, each in
# the middle of its work, and end as they would have; who may not go, goes on where it was.
# $1: the directory of the test programs of vmadump. 2 nodes, pingtimeout 3.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
bin=$1
cd "$t" || exit 1

# 1 until they are told to end: not a line is lost or twice, whatever they do in between
count=':; n=0; while [ ! -e stop ]; do echo $((n += 1)); sleep 0.01 & wait $!; (exit 3); done'
count+='; [ $? = 3 ]; echo ok'
declare -A programs=(
	[bash]="$count"
	[perl]='exec perl -e '\''$| = 1; my %h; $SIG{ALRM} = sub { $t++ };
		use Time::HiRes qw(setitimer ITIMER_REAL sleep); setitimer(ITIMER_REAL, 0.02, 0.02);
		while (!-e "stop") { $h{++$n} = 1; print "$n\n"; sleep(0.01) }
		setitimer(ITIMER_REAL, 0); # perl forgets its handlers before it is gone
		print $t > 3 && keys %h == $n ? "ok\n" : "wrong\n"'\'
	[python]='exec /usr/bin/python3 -u -c '\''
import mmap, os, signal, threading, time
fd = os.memfd_create("twice") # open, and mapped twice
os.ftruncate(fd, 8192)
twice = mmap.mmap(fd, 8192), mmap.mmap(fd, 4096)
ticks = []
signal.signal(signal.SIGALRM, lambda *a: ticks.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
def numbers():
    n = 1
    while True:
        yield n
        n += 1
log = open("python.log", "w+")
steps, end = [0] * 3, threading.Event()
def work(k):
    while not end.wait(0.005):
        steps[k] += 1
threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
[x.start() for x in threads]
for n in numbers():
    if os.path.exists("stop"):
        break
    print(n)
    log.write("%d\n" % n)
    twice[0][:8] = n.to_bytes(8, "little")
    time.sleep(0.01)
end.set()
signal.setitimer(signal.ITIMER_REAL, 0)
[x.join() for x in threads]
log.flush(); log.seek(0)
good = [int(l) for l in log] == list(range(1, n))
good = good and twice[1][:8] == os.pread(fd, 8, 0) == (n - 1).to_bytes(8, "little")
good = good and len(ticks) > 3 and min(steps) > 3
print("ok" if good else "wrong: %d %d %s" % (n, len(ticks), steps))'\'
)
for name in bash perl python; do
	[ $name = python ] && [ ! -x /usr/bin/python3 ] && continue
	rm -f stop
	out=$name.out
	: >$out
	bash -c "${programs[$name]}" </dev/null >$out 2>err &
	p=$!
	within 20 "$name writes" lines $out 3
	moved $name 10
	is "$name is at home again" "$(node_of "$p")" -1
	: >stop
	wait "$p"
	is "$name ends with 0" $? 0
	n=$(($(wc -l <$out) - 1))
	seq $n >$name.want
	echo ok >>$name.want
	is "$name: every line once" "$(diff $name.want $out | head -n 20)" ''
	[ -s err ] && bad "$name: $(head -n 3 err)"
done

# 2 as long as they work: threads with all they have, assembly, xz with two threads
: >out
"$bin/test_vmadump_threads" 600 </dev/null >out 2>err &
p=$!
within 20 'threads write' lines out 3
moved threads 10
wait "$p"
is 'threads end with 0' $? 0
is 'threads: all of it' "$( (seq 0 599; echo threads ok) | cmp - out && echo same)" same
: >out
"$bin/test_vmadump_asm" </dev/null >out 2>err &
p=$!
within 20 'assembly writes' lines out 3
moved assembly 10
wait "$p"
is 'assembly ends with 0' $? 0
is 'assembly: its last line' "$(tail -n 1 out)" 'asm ok'
: >out
"$bin/test_vmadump_more" 300 </dev/null >out 2>err &
p=$!
within 20 'what few set is set' lines out 3
moved 'what few set' 10
wait "$p"
is 'what few set ends with 0' $? 0
is 'what few set: its last line' "$(tail -n 1 out)" 'more ok'
if "$bin/test_vmadump_odd" zmm 0 >/dev/null; then
	: >out
	"$bin/test_vmadump_odd" zmm 400 </dev/null >out 2>err &
	p=$!
	within 20 'AVX-512 works' lines out 3
	moved AVX-512 3
	wait "$p"
	is 'AVX-512 ends with 0' $? 0
	is 'AVX-512: its last line' "$(tail -n 1 out)" 'odd ok'
else
	echo '# skipped: this machine has no AVX-512'
fi
if command -v xz >/dev/null; then
	{ seq 1 400000; cat "$bin/test_vmadump_threads_static"; } >plain
	xz -k -4 -T2 --block-size=400000 plain &
	p=$!
	within 20 'xz writes' test -s plain.xz
	moved xz 10
	wait "$p"
	is 'xz ends with 0' $? 0
	is 'xz: the same bytes' "$(xz -4 -T2 --block-size=400000 <plain | cmp - plain.xz && echo same)" same
fi

# of an ordinary user, who may not make a thread under the number that it had here before
chmod 711 .
bpctl -S all -m 0111
touch err
chmod 666 err
cp "$bin/test_vmadump_threads" threads
: >out
chmod 666 out
setpriv --reuid 65534 --regid 65534 --clear-groups ./threads 600 </dev/null >out 2>err &
p=$!
within 20 "a user's threads write" lines out 3
moved "a user's threads" 10
is 'ten laps' "$laps" 10
wait "$p"
is "a user's threads end with 0" $? 0
is "a user's threads: all of it" "$( (seq 0 599; echo threads ok) | cmp - out && echo same)$(cat err)" same
# and who may not come home with a thread that was made on a node, but without it
if [ -x /usr/bin/python3 ]; then
	rm -f stop
	setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -u -c '
import os, threading, time
end = threading.Event()
old = threading.Thread(target=end.wait)
old.start()
print("ready")
while not os.path.exists("another"):
    time.sleep(0.01)
new = threading.Event()
one = threading.Thread(target=new.wait)
one.start()
print("more")
while not os.path.exists("without"):
    time.sleep(0.01)
new.set()
one.join()
print("less")
while not os.path.exists("stop"):
    time.sleep(0.01)
end.set()
old.join()' </dev/null >out 2>err &
	p=$!
	within 20 'it has a thread' grep -q ready out
	ok 'to node 0' bpmove $p 0
	: >another
	within 20 'it has made another' grep -q more out
	has 'that cannot come home' "$(bpmove $p master 2>&1)" 'bpmove: *: a thread with the id *'
	is 'so it stays' "$(node_of $p)" 0
	: >without
	within 20 'it has ended' grep -q less out
	within 10 'home' bpmove $p master
	: >stop
	wait $p
	is 'all is well' "$?$(cat err)" 0
	# Two that go together, and one of them cannot come home when the other is complete there
	# already: that one is a ghost as before, with the threads that it had, and has met none of
	# the timers and signals of its original, which goes on.
	rm -f stop another without
	: >out # or its "ready" is that of the one before
	setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -u -c '
import os, signal, threading, time
log = open("/dev/null", "w") # one description of both: the second gets it from the first
child = os.fork()
end = threading.Event()
if child:
    rt, ticks, start = signal.SIGRTMIN + 1, [], time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, [rt])
    signal.signal(signal.SIGALRM, lambda *a: ticks.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    threads = [threading.Thread(target=end.wait) for i in range(3)]
    [x.start() for x in threads]
    print("ready")
    while not os.path.exists("stop"):
        time.sleep(0.01)
    end.set()
    [x.join() for x in threads]
    elapsed = time.monotonic() - start
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("twice" if len(ticks) > elapsed / 0.05 + 1 else "once", os.wait()[1])
    n = 0
    while signal.sigtimedwait([rt], 0):
        n += 1
    print(n, "signals")
else:
    while not os.path.exists("another"):
        time.sleep(0.01)
    one = threading.Thread(target=end.wait)
    one.start()
    print("more")
    while not os.path.exists("without"):
        time.sleep(0.01)
    end.set()
    one.join()
    print("less")
    while not os.path.exists("stop"):
        time.sleep(0.01)' </dev/null >out 2>err &
	p=$!
	within 20 'it has threads' grep -q ready out
	kill -s RTMIN+1 $p
	kill -s RTMIN+1 $p
	ok 'both to node 0' bpmove -t $p 0
	: >another
	within 20 'the second has one more' grep -q more out
	has 'that cannot come home' "$(bpmove -t $p master 2>&1)" \
		'bpmove: *: process *: a thread with the id *'
	sleep 1 # in which a timer that was left there would tick
	: >without
	within 20 'it has ended' grep -q less out
	within 10 'both home' bpmove -t $p master
	: >stop
	wait $p
	is 'they end with 0' "$?$(cat err)" 0
	is 'and the first has met each signal once' "$(tail -n 2 out | tr '\n' ' ')" 'once 0 2 signals '
fi
bpctl -S all -m 0100

# 3 what was moved is a process like any: to kill, to wait for, forwarded
mkfifo in
: >out
perl -e '$| = 1; while (<STDIN>) { print "got $_" }' <in >out 2>err &
p=$!
exec 5>in
echo 1 >&5
within 20 'it answers' lines out 1
ok 'to node 1' bpmove "$p" 1
is 'it is there' "$(node_of "$p")" 1
echo 2 >&5
within 20 'and from there' lines out 2
ok 'there already' bpmove "$p" 1
ok 'to node 0' bpmove "$p" 0
echo 3 >&5
within 20 'and from there' lines out 3
exec 5>&-
wait "$p"
is 'it has seen the end of its input' "$? $(tail -n 1 out)" '0 got 3'
sleep 1000 &
p=$!
ok 'sleep, to node 0' bpmove $p 0
kill -TERM $p
wait $p
is 'killed there' $? 143

# 4 who cannot go: by name, and it goes on
status 'nobody' 1 bpmove 4000000 0
perl -e '$| = 1; use Socket; socket(S, PF_INET, SOCK_DGRAM, 0); open(F, ">f"); flock(F, 2);
	while (1) { print "."; select undef, undef, undef, 0.01 }' >out1 &
p=$!
out=out1
goes_on() {
	local n
	n=$(stat -c %s $out)
	for _ in $(seq 200); do
		sleep 0.05
		[ "$(stat -c %s $out)" -gt "$n" ] && return 0
	done
	return 1
}
within 20 'it writes' test -s $out
has 'a socket' "$(bpmove $p 0 2>&1)" "bpmove: $p: fd [0-9]* is a socket; it cannot move"
ok 'it goes on' goes_on
said=$(bpmove --dry-run $p)
is 'dry run of what cannot move' $? 1
has 'each thing by its name' "$said" "$p cannot move:*is a socket;*holds a lock on */f;*"
has 'and what would go' "$said" '*fd *kind*'
ok 'it goes on' goes_on
kill $p
wait $p 2>/dev/null
perl -e '$| = 1; mkdir "gone"; chdir "gone"; rmdir "../gone"; open(D, ">", "'"$t"'/dot"); print D "."; close D;
	sleep 60' &
p=$!
within 20 'its directory is gone' test -s dot
has 'dry run without a directory' "$(bpmove -n $p)" "$p cannot move:*its working directory is gone*"
has 'and a move' "$(bpmove $p 0 2>&1)" "bpmove: $p: its working directory is gone*"
kill $p
wait $p 2>/dev/null
# One that has very much is looked at while it runs: what it reads itself, it reads while it stands
# still, and that is a few files of /proc, however many descriptors it has.
reads() { sed -n 's/^syscr: //p' "/proc/$1/io"; }
has_many() { # what else it has, in perl
	: >many.out # or the one before is "ready"
	perl -e '$| = 1; use Fcntl; for (1 .. 300) { sysopen(my $f, "many", O_RDWR | O_CREAT) or die;
		push @f, $f } '"$1"' print "ready\n"; sleep 60 while 1' >many.out &
	p=$!
	within 20 'it has opened them' grep -q ready many.out
	before=$(reads $p)
	said=$(bpmove -n $p)
}
has_many ''
has 'dry run of very many descriptors' "$said" "$p can move*302 *"
is 'and none that are not its own' "$(grep -c memfd <<<"$said")" 0
ok 'little is done while it stands still' test $(($(reads $p) - before)) -lt 40
kill $p
wait $p 2>/dev/null
has_many 'my $l = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
	fcntl($f[0], F_SETLK, $l) or die;'
has 'a lock among them' "$said" "$p cannot move:*holds a lock on */many;*not stopped"
has 'the same of a move' "$(bpmove $p 0 2>&1)" '*holds a lock on */many;*'
is 'nothing is done for either' "$(reads $p)" "$before"
ok 'and a move that takes it along' bpmove --locks $p 0
kill $p
wait $p 2>/dev/null
out=out2
perl -e '$| = 1; while (1) { print "."; select undef, undef, undef, 0.01 }' >$out &
p=$!
within 20 'it writes' test -s $out
has 'dry run of what can' "$(bpmove -n $p)" "$p can move*"
kill -STOP $p
within 10 'stopped' grep -q '^State:.T' /proc/$p/status
has 'stopped' "$(bpmove $p 0 2>&1)" '*it is stopped (signal 19)*'
kill -CONT $p
bpctl -S 0 -s down
has 'a node that is down' "$(bpmove $p 0 2>&1)" '*node 0 is *down'
ok 'it goes on' goes_on
has 'no such node' "$(bpmove $p 7 2>&1)" '*there is no node 7'
has 'nor by name' "$(bpmove $p nothing 2>&1)" 'bpmove: nothing: not the number of a node'
has 'what does not go with a tree' "$(bpmove -t --live $p 1 2>&1)" 'bpmove: --tree excludes --live'
ok 'it goes on' goes_on
bpctl -S 0 -s up
within 20 'node 0 is up' node_is 0 up
has 'of another user' "$(setpriv --reuid=65534 --regid=65534 --clear-groups bpmove $p 1 2>&1)" \
	'*ot permitted'
ok 'it goes on' goes_on
ok 'and can still go, to a node by its name' bpmove $p n1
ok 'it goes on there' goes_on
kill $p
wait $p 2>/dev/null

# 5 the mover or the node dies in the middle: it is somewhere, once, and goes on
rm -f stop
perl -e '$| = 1; my $big = "x" x (200 << 20); my $sum = unpack("%32C*", $big);
	print "$$\n"; while (!-e "stop") { print "."; select undef, undef, undef, 0.01 }
	print unpack("%32C*", $big) == $sum ? "whole\n" : "broken\n"' >out3 &
p=$!
out=out3
within 60 'it is big' test -s $out
bpmove $p 0 &
mover=$!
sleep 0.05
kill -9 $mover
wait $mover 2>/dev/null
ok 'without its mover it goes on' goes_on
for i in $(seq 1 3 40); do
	timeout -s KILL "0.0$((10 + i))" bpmove $p $((i % 2)) 2>/dev/null
	alive $p || break
done
ok 'without its movers it goes on' goes_on
within 30 'it is at node 0' bpmove $p 0
bpmove $p 1 &
mover=$!
sleep 0.1
bplab kill 1
wait $mover
echo "# the move to the node that was killed ended with $?"
sleep 0.5
case $(node_of $p) in
1) bplab kill 1; good 'it was there already' ;;
*)
	within 30 'it goes on where it was' goes_on
	: >stop
	wait $p
	is 'all of it' "$? $(tail -c 6 $out)" '0 whole'
	;;
esac
kill -9 "$p" 2>/dev/null
# 6 and nobody has written to their files since
for name in bash perl python; do
	[ -e $name.want ] && is "$name: still" "$(diff $name.want $name.out | head -n 20)" ''
done
finish
