#!/usr/bin/env bash
# What a dump must not do to the program, whatever becomes of vmadump: it is ended in the
# middle, the disk is full, the reader is gone, the user may not. $1 vmadump, $2 the
# directory of the test programs.
bin=$2
tests=$(dirname "$(readlink -f "$0")")
# shellcheck source=/dev/null
. "$tests/vmadump_lib.sh"

# Nothing of vmadump's is left in the process.
clean() {
	grep -q '^3000' "/proc/$1/maps" && fail "$2: the blob is left in it"
	[ "$(ls "/proc/$1/fd" | wc -l)" -eq "$3" ] || fail "$2: descriptors are left: $(ls -l "/proc/$1/fd")"
	grep -q '^TracerPid:.0$' "/proc/$1/status" || fail "$2: it is traced"
}

for ((i = 0; i < 400; i++)); do echo $i; done >want
echo "threads ok" >>want
start out "$bin/test_vmadump_threads" 400
lines out 5
for ((i = 0; i < 20; i++)); do
	"$vmadump" dump "$pid" image || fail "dump $i of many"
done
clean "$pid" 'twenty dumps' 3
"$vmadump" dump "$pid" /dev/full 2>said && fail 'a full disk'
grep -q 'no space left' said || fail "a full disk: $(cat said)"
clean "$pid" 'a full disk' 3
"$vmadump" dump "$pid" - | head -c 5000 >part
clean "$pid" 'a reader that is gone' 3
(ulimit -f 4; "$vmadump" dump "$pid" image.part) 2>/dev/null
wait "$pid" || fail 'the program has noticed'
cmp out want || fail 'its output is not what it should be'

# Signals that come while it is taken: none is lost, none comes twice.
for ((i = 0; i < 100; i++)); do echo $i; done >want.storm
echo "odd ok" >>want.storm
start out "$bin/test_vmadump_odd" storm 100
lines out 1
for ((i = 0; i < 60; i++)); do
	"$vmadump" dump "$pid" image 2>said || grep -q 'no process\|has ended' said ||
		fail "a dump under signals: $(cat said)"
done
wait "$pid" || fail "signals that came while it was dumped: $(cat out.err)"
cmp out want.storm || fail 'what it wrote under signals is not what it should be'

# vmadump is killed while the image is written: the process goes on by itself, and can be
# dumped again.
start out perl -e '$| = 1; my $m = "x" x (100 << 20); my $n = 0;
	while (1) { print $n++, "\n"; select undef, undef, undef, 0.01; }'
lines out 3
killed=0
for ((i = 0; i < 5; i++)); do
	"$vmadump" dump "$pid" "part.$i" & d=$!
	sleep "0.0$((2 + i))"
	kill -9 "$d" 2>/dev/null && killed=$((killed + 1))
	wait "$d" 2>/dev/null
	rm -f part.*
	n=$(wc -l <out)
	lines out $((n + 3)) || break
done
[ "$killed" -gt 0 ] || fail 'no dump was cut short'
"$vmadump" dump "$pid" /dev/null || fail 'a dump after some that were cut short'
[ "$(may_run "$pid")" = "$(may_run $$)" ] || fail "after those it may run on $(may_run "$pid") only"
n=$(wc -l <out)
lines out $((n + 3))
kill -9 "$pid"
gone "$pid"

# It executes itself again and again: what was found of it before it stands still is another's.
cat >again <<'END'
#!/bin/sh
[ -e begun ] || echo begun | tee begun
[ -e stop ] || exec ./again
echo done
END
chmod +x again
start out ./again
lines out 1
for ((i = 0; i < 40; i++)); do
	timeout 60 "$vmadump" dump "$pid" image 2>said ||
		{ fail "dump $i of what executes itself: $? $(cat said)"; break; }
done
touch stop
wait "$pid" || fail 'what executed itself has not ended well'
[ "$(tail -n 1 out)" = 'done' ] || fail "what executed itself: $(cat out)"

# It is killed while it has the registers of the program in hand, by what can be waited with and
# by what cannot: the program never notices.
start out "$bin/test_vmadump_threads" 400
lines out 5
for ((i = 0; i < 200; i++)); do
	timeout -s $((i % 2 ? 9 : 15)) "0.00$((10 + i % 40))" "$vmadump" dump "$pid" part
	rm -f part*
	kill -0 "$pid" 2>/dev/null || break
done 2>/dev/null
wait "$pid" || fail "it ended with $? when a dump of it was killed, the ${i}th"
cmp out want || fail 'killed dumps: its output is not what it should be'

# The image of an ordinary user's process is an ordinary user's: no privilege, and its own
# pid where it may choose it.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
	cp "$vmadump" v
	chmod 755 . v
	mkdir user
	chmod 777 user
	cat >user.sh <<-'END'
		cd user && rm -f i && : >o
		perl -e '$| = 1; for (1 .. 60) { print "$_\n"; select undef, undef, undef, 0.02 }' \
			</dev/null >o 2>&1 &
		p=$!
		while [ "$(wc -l <o)" -lt 5 ]; do sleep 0.02; done
		../v dump -k $p i && { wait $p; ../v restore $1 i; } && [ "$(wc -l <o)" -eq 60 ]
	END
	as='setpriv --reuid 65534 --regid 65534 --clear-groups'
	# shellcheck disable=SC2086
	(close_fds; exec $as bash user.sh --new-pid) 2>said || fail "an ordinary user: $(cat said)"
	if $as unshare -Urpf --mount-proc true 2>/dev/null; then
		rm -rf user/*
		# shellcheck disable=SC2086
		(close_fds; exec $as unshare -Urpf --mount-proc bash user.sh '') 2>said ||
			fail "its own pid in a user namespace: $(cat said)"
	fi
	start out sleep 60
	# shellcheck disable=SC2086
	$as ./v dump "$pid" /dev/null 2>said && fail "another user's process was taken"
	grep -qi 'not permitted' said || fail "another user's process: $(cat said)"
	kill -9 "$pid"
	gone "$pid"
fi

# A test ends what it has started and is still there, and nobody else: not who has the number of
# one that has ended.
cat >ends.sh <<'END'
lib=$1
(
	set -- vmadump
	. "$lib"
	start out true
	gone "$pid"
	echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
	(cd / && exec sleep 60) & other=$!
	[ "$other" = "$pid" ] || fail "number $other in place of $pid"
	until [ "/proc/$other/cwd" -ef / ]; do sleep 0.01; done
	start out sleep 60
	echo "$other $pid" >"$OLDPWD/ends"
) || exit
read -r other own <ends
for ((i = 0; i < 500; i++)); do
	kill -0 "$own" 2>/dev/null || break
	sleep 0.01
done
[ "$i" -lt 500 ] && kill -0 "$other"
END
if unshare -Urpf --mount-proc test -w /proc/sys/kernel/ns_last_pid 2>/dev/null; then
	unshare -Urpf --mount-proc bash ends.sh "$tests/vmadump_lib.sh" 2>said ||
		fail "the end of a test: $(cat said)"
fi
:
