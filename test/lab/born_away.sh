#!/usr/bin/env bash
# Proves: home, whose slave was killed, and was away while a child was born on a node and its parent
# ended there, makes the child's ghost before it shows that end: the child is in its parent's
# session, an orphan as any other, and not the keeper's. So is its own child. Lab of 1 node.
set -u
. "$(dirname "$0")/lib.sh"
work=$t/born_away
mkdir -p "$work"
here=$(ps -o sid= -p $$)

sid_of() { ps -o sid= -p "$1"; }
parent_of() { ps -o ppid= -p "$1" | tr -d ' '; }
has_ghost() { ps -o pid= -p "$1" >/dev/null; }

# Nobody else of this session is on a node.
bpsh -n 0 sh -c "
	exec </dev/null >/dev/null 2>&1
	echo \$\$ >$work/parent
	until [ -e $work/go ]; do sleep 0.02; done
	sh -c 'sleep 1000 & echo \$! >$work/inner; echo \$\$ >$work/outer; wait' &
	until [ -s $work/outer ]; do sleep 0.02; done
	exit 5" &
job=$!
within 10 "it runs on the node" [ -s "$work/parent" ]
parent=$(cat "$work/parent")
bplab stop-slave --kill master
touch "$work/go"
within 10 "its children are born" [ -s "$work/outer" ]
inner=$(cat "$work/inner") outer=$(cat "$work/outer")
ended() { ! bplab exec 0 pgrep -f 'exit [5]'; }
within 10 "there it has ended" ended
ok "here it has not" has_ghost "$parent"
bplab start-slave master
status "its parent hears how it ended" 5 wait "$job"
within 10 "the child is here" has_ghost "$outer"
within 10 "so is the child's" has_ghost "$inner"
is "the child is in its parent's session" "$(sid_of "$outer")" "$here"
is "and so is its own" "$(sid_of "$inner")" "$here"
is "as a child of that" "$(parent_of "$inner")" "$outer"
kill "$inner"
within 10 "both end" sh -c "! ps -o pid= -p $outer,$inner"
finish
