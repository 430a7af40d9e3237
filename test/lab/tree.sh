#!/bin/bash
# Processes that move with all that descend from them (bpmove --tree), in the middle of their work,
# home -> n0 -> n1 -> home: a family with pipes, a socket pair and a file that they share. What
# cannot go leaves all of them where they were. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/kin.sh"
cd "$t" || exit 1

family 2 dynamic
has 'dry run of what can' "$(bpmove --dry-run --tree "$p")" "$p can move with all *stopped for *"
goes_on 'after a dry run'
is 'and is where it was' "$(nodes_of)" '-1 -1 -1 '
moved family 3 --tree
goes_on 'at home again'
bpmove -t "$p" 0
within 10 'all of it is there' test "$(nodes_of)" = '0 0 0 '
goes_on 'and works there'

# One of them cannot: all stay
has 'a part of it cannot go alone' "$(bpmove -t "$child" 1 2>&1)" '*cannot move*'
said=$(bpmove -nt "$child")
is 'dry run of that' $? 1
has 'the dry run names it too' "$said" "$child cannot move:*fd *stopped for *"
has 'dry run of all, on a node' "$(bpmove -nt "$p")" "$p can move with all *"
goes_on 'and all go on'
is 'where they were' "$(nodes_of)" '0 0 0 '
bpmove -t "$p" master || bad 'home'
family_ends 'from a node'

bash -c '(exec 5<>/dev/udp/127.0.0.1/9; exec sleep 300) & wait' &
p=$!
within 10 'one has a socket' pgrep -P "$p" sleep
child=$(pgrep -P "$p")
exec 6<>/dev/udp/127.0.0.1/9
bash -c '(exec 5<>/dev/udp/127.0.0.1/9; exec sleep 300) & exec 7<>/dev/udp/127.0.0.1/9; wait' &
q=$!
exec 6>&-
within 10 'another has three' pgrep -P "$q" sleep
said=$(bpmove -nt "$q")
is 'dry run of what cannot' $? 1
has 'each of them' "$said" "$q cannot move:*fd 7 is *process $(pgrep -P "$q"): fd 5 is *"
kill "$(pgrep -P "$q")"
wait "$q"
is 'it goes on' $? 0
has 'it is named' "$(bpmove -t "$p" 0 2>&1)" "*process $child: fd 5 is *"
is 'both stay' "$(node_of "$p") $(node_of "$child")" '-1 -1'
kill "$child"
wait "$p"
is 'and go on' $? 0
finish
