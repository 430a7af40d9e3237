#!/usr/bin/env bash
# What vmadump cannot take, it names; the program goes on and no image is left. $1
# vmadump, $2 the directory of the test programs.
# shellcheck source=/dev/null
. "$(dirname "$(readlink -f "$0")")/vmadump_lib.sh"

p='$| = 1; '
refused 'is a socket; it cannot move' perl -e "$p"'use Socket;
	socket(S, PF_INET, SOCK_STREAM, 0); print "ready\n"; sleep 60'
# One whose other end somebody else has, who descends from it no more.
pair="$p"'use Socket; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0);
	unless (fork) { close A; exit if fork; my $n = "far end"; syscall(157, 15, $n); sleep 60 }
	wait; close B; select undef, undef, undef, 0.2; '
refused 'is a socket whose other end process' perl -e "$pair"'print "ready\n"; sleep 60'
refused '(far end) has; it cannot move alone' perl -e "$pair"'print "ready\n"; sleep 60'
# shellcheck disable=SC2034
dump_flags=(-t)
refused '(far end) has; it cannot move alone' perl -e "$pair"'
	unless (fork) { print "ready\n"; sleep 60 } close A; wait'
# shellcheck disable=SC2034
dump_flags=()
refused 'is /dev/kmsg, a device of this node' perl -e "$p"'
	open(S, "<", "/dev/kmsg"); print "ready\n"; sleep 60'
refused 'it is traced by process' perl -e "$p"'
	my $p = $$; unless (fork) { syscall(101, 0x4206, $p, 0, 0); sleep 2; exit }
	select undef, undef, undef, 0.2; print "ready\n"; sleep 60 while 1'
refused 'it has a seccomp filter with a listener of its own' perl -e "$p"'
	syscall(157, 38, 1, 0, 0, 0); my $f = pack("SCCL" x 4, 0x20, 0, 0, 0, 0x15, 0, 1, 9999,
		6, 0, 0, 0x7fc00000, 6, 0, 0, 0x7fff0000);
	my $prog = pack("Sx6P", 4, $f); syscall(157, 22, 2, $prog) == 0 or die; print "ready\n"; sleep 60'

# What few programs have. An ELF file of 32 bits that says "ready" and waits.
elf32='7f454c4601010100000000000000000002000300010000005480040834000000000000000000000034002000010000000000000001000000'
elf32+='00000000008004080080040890000000900000000500000000100000b804000000bb01000000b97a800408ba06000000cd80b81d000000'
elf32+='cd80ebfe000072656164790a'
# shellcheck disable=SC2001
printf '%b' "$(sed 's/../\\x&/g' <<<"$elf32")" >elf32
chmod +x elf32
odd=$2/test_vmadump_odd
odd() { # TEXT COMMAND...: as refused, unless this machine has no such thing
	local text=$1
	shift
	(close_fds; exec timeout 0.5 "$@" </dev/null >/dev/null 2>&1)
	[ $? -ne 124 ] && echo "skipped: this machine has nothing for '$text'" && return
	refused "$text" "$@"
}
odd 'it runs 32-bit code' ./elf32
odd 'it runs 32-bit code' "$odd" far
odd 'is of hugetlb pages' "$odd" huge
odd 'is a memfd of hugetlb pages' "$odd" hugefd
odd 'is secret memory' "$odd" secret
odd 'is a message queue' "$odd" queue
more=$2/test_vmadump_more
odd 'it has segments of its own (modify_ldt)' "$more" ldt
odd 'has its system calls dispatched' "$more" dispatch
odd 'may tell of changes in it (F_NOTIFY)' "$more" notify
odd 'of what happens (F_SETOWN)' "$more" owner
odd 'is a socket with an empty packet in it' "$more" empty
odd 'is shared, and has guard pages' "$more" guard
refused 'is a pipe with packets in it (O_DIRECT)' perl -e "$p"'my $ends = pack("ii", 0, 0);
	syscall(293, $ends, 040000); my ($r, $w) = unpack("ii", $ends); my $x = "x"; syscall(1, $w, $x, 1);
	print "ready\n"; sleep 60'
odd 'it may run no memory that was written (PR_SET_MDWE)' perl -e "$p"'
	syscall(157, 65, 1, 0, 0, 0) == 0 or exit; print "ready\n"; sleep 60'
refused 'is a deleted directory' perl -e "$p"'
	mkdir "gone"; open(D, "<", "gone"); rmdir "gone"; print "ready\n"; sleep 60'
refused 'its working directory is gone' perl -e "$p"'
	mkdir "gone"; chdir "gone"; rmdir "../gone"; print "ready\n"; sleep 60'

# What has very much is looked at before it is stopped: descriptors, mappings, memory.
many="$p"'use Socket; use Fcntl; for (1 .. 300) { sysopen(my $f, "one", O_RDWR | O_CREAT); push @f, $f }
	open(D, "<&", $f[7]); '
refused 'is a socket; it cannot move' perl -e "$many"'socket(S, PF_INET, SOCK_STREAM, 0);
	print "ready\n"; sleep 60'
refused 'is /dev/kmsg, a device of this node' perl -e "$many"'open(S, "<", "/dev/kmsg");
	print "ready\n"; sleep 60'
refused 'is a pipe; it cannot move' perl -e "$many"'pipe(R, W); unless (fork) { close W; sleep 60 }
	close R; print "ready\n"; sleep 60'
refused 'is System V shared memory' perl -e "$p"'use IPC::SysV; $x = "x" x (400 << 20);
	my $id = shmget(IPC::SysV::IPC_PRIVATE, 4096, 0600); my $a = syscall(30, $id, 0, 0);
	shmctl($id, IPC::SysV::IPC_RMID, 0); print "ready\n"; sleep 60'

# What another process has as well would be cut off from it. (290: eventfd2, 319: memfd_create.)
both='; my $m = $$; unless (fork) { select undef, undef, undef, 0.05 while getppid == $m; exit }
	print "ready\n"; sleep 60'
refused 'is a pipe that process' perl -e "${p}pipe(R, W)$both"
refused 'is a socket that process' \
	perl -e "${p}use Socket; socketpair(A, B, AF_UNIX, SOCK_STREAM, 0)$both"
refused 'is an event descriptor that process' perl -e "${p}syscall(290, 1, 0)$both"
refused 'is a memfd that process' perl -e "$p"'my $n = "m"; syscall(319, $n, 0)'"$both"
refused 'is a deleted file that process' perl -e "$p"'open(F, "+>", undef)'"$both"
refused 'is a deleted file that process' perl -e "$p"'for (1 .. 5) { $d .= "d" x 60; mkdir $d; $d .= "/" }
	open(F, "+>", $d . "f"); unlink $d . "f"'"$both"
refused 'is memory that process' perl -e "${p}syscall(9, 0, 4096, 3, 0x21, -1, 0)$both"

# That is known before it is stopped, of a tree too: it sleeps, and has not left its processor since.
switches() { grep -h ctxt_switches "/proc/$pid/status"; }
unstopped() { # COMMAND...
	local before
	start unstopped "$@"
	lines unstopped 1 || return
	sleep 0.2
	before=$(switches)
	"$vmadump" dump "${dump_flags[@]}" "$pid" image 2>said && fail 'not refused'
	grep -qF 'that process' said || fail "refused, but for something else: $(cat said)"
	[ "$(switches)" = "$before" ] || fail "stopped to be refused: $(cat said)"
	kill -9 "$pid" 2>/dev/null
	gone "$pid"
}
rests='print "ready\n"; select undef, undef, undef, 60'
child='; my $m = $$; unless (fork) { select undef, undef, undef, 0.05 while getppid == $m; exit }'
unstopped perl -e "${p}pipe(R, W)$child $rests"
unstopped perl -e "${p}syscall(290, 1, 0)$child $rests"
# One that descends from it no more.
orphan='; my $m = $$; unless (fork) { exit if fork; select undef, undef, undef, 0.05 while kill 0, $m; exit } wait;
	unless (fork) { select undef, undef, undef, 0.05 while getppid == $m; exit }'
# shellcheck disable=SC2034
dump_flags=(-t)
unstopped perl -e "${p}pipe(R, W)$orphan $rests"
# shellcheck disable=SC2034
dump_flags=()

# Of what is small, that is looked for while it makes its image.
# shellcheck disable=SC2016
small='(while kill -0 $$; do sleep 0.05; done) 2>/dev/null & echo ready; exec sleep 60'
refused 'is a deleted file that process' sh -c "exec 9>small; rm small; $small"
if unshare -un true 2>/dev/null; then
	refused 'it has a uts namespace of its own' unshare -u sh -c "$small"
	refused 'it has a network namespace of its own' unshare -n sh -c "$small"
fi

# Few are found when they are stopped, many before.
for others in 0 40; do
	refused 'has a seccomp filter of its own' "$odd" strict $others
	refused 'does not share all that threads share' "$odd" apart $others
done

# What it has for itself, or the other has closed, goes.
start alone perl -e "$p"'pipe(R, W); syscall(290, 1, 0x80000); syscall(9, 0, 4096, 3, 0x21, -1, 0);
	unless (fork) { exec "sleep", 60 } select undef, undef, undef, 0.1 until
		readlink("/proc/" . (split " ", `cat /proc/$$/task/$$/children`)[0] . "/exe") =~ /sleep/;
	print "ready\n"; sleep 60'
lines alone 1 && { "$vmadump" dump "$pid" image 2>said || fail "refused: $(cat said)"; }
rm -f image
# shellcheck disable=SC2046
kill $(cat "/proc/$pid/task/$pid/children")

if unshare -u true 2>/dev/null; then
	refused 'it has a uts namespace of its own' unshare -u perl -e "$p"'print "ready\n"; sleep 60'
	refused 'it has a root directory without /proc of its own' perl -e "$p"'
		chroot("/usr") or die; print "ready\n"; sleep 60'
fi

"$vmadump" dump 2 image 2>said && fail 'a thread of the kernel'
if [ -e /proc/2/status ] && ! grep -q '^VmSize' /proc/2/status; then
	grep -qF 'a thread of the kernel' said || fail "kernel thread: $(cat said)"
fi
"$vmadump" dump 4194303 image 2>said && fail 'no process'
grep -qF 'there is no process 4194303' said || fail "no process: $(cat said)"
"$vmadump" dump me image 2>said && fail 'not a number'
[ -e image ] && fail 'an image is left'

# An image that is there already stays what it was.
echo old >image
"$vmadump" dump 4194303 image 2>said && fail 'no process'
[ "$(cat image)" = old ] || fail 'a failed dump has replaced an image'
rm image
:
