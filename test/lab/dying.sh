#!/usr/bin/env bash
# Proves: who is long about ending on a node, since it has memory to give back and no processor for
# that, is not taken for one that has been waited for: it is a zombie at home until it is. Lab of 1
# node.
set -u
. "$(dirname "$0")/lib.sh"
work=$t/dying
mkdir -p "$work"
bpsh -n 0 taskset -c 0 sh -c 'while :; do :; done' &
busy=$!
trap 'kill "$busy" 2>/dev/null' EXIT

# The child ends with what the busy one leaves it of that processor: next to nothing.
bpsh -n 0 perl -e '
	use POSIX;
	my $work = shift;
	my $child = fork();
	if ($child == 0) {
		my $x = "a" x 5e7;
		system("taskset -pc 0 $$ >/dev/null && chrt -i -p 0 $$") == 0 or POSIX::_exit(1);
		open(my $f, ">", "$work/ends"); close($f);
		POSIX::_exit(5);
	}
	open(my $f, ">", "$work/child"); print $f $child; close($f);
	select(undef, undef, undef, 0.05) until -e "$work/ends";
	sleep 2;
	open($f, ">", "$work/look"); close($f);
	select(undef, undef, undef, 0.05) until -e "$work/looked";
	exit(waitpid($child, 0) == $child && $? == 5 << 8 ? 7 : 1);
' "$work" &
parent=$!
until [ -e "$work/look" ]; do sleep 0.05; done
child=$(cat "$work/child")
state=$(ps -o stat= -p "$child")
has "nobody has waited for it: at home it is there" "$state" '[ZSR]*'
kill "$busy"
touch "$work/looked"
status "its parent is told how it ended" 7 wait "$parent"
gone() { ! ps -o stat= -p "$child"; }
within 10 "then it is gone at home" gone
finish
