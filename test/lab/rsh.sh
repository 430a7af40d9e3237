#!/bin/bash
# bprsh as launchers call it, and one of them: Hydra, MPICH's. 3 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

# 1 by each name of a node
is 'a number' "$(bprsh 1 hostname)" n1
is 'an address' "$(bprsh 10.77.1.3 hostname)" n2
is 'master' "$(bprsh master hostname)" "$(hostname)"
is 'a name' "$(bprsh n0 hostname)" n0
is 'a name of the front end' "$(bprsh localhost hostname)" "$(hostname)"
status 'no such node' 255 bprsh 9 true
has 'and which' "$(bprsh 9 true 2>&1)" '*node 9*'
has 'no node there' "$(bprsh 10.9.9.9 true 2>&1)" 'bprsh: 10.9.9.9: no node has its address'
status 'no command' 255 bprsh 1 2>/dev/null

# 2 its options, before and behind the host
is 'options of ssh' "$(echo in | bprsh -x -q -o BatchMode=yes 0 -l "$(id -un)" cat)" in
is '-n' "$(echo in | bprsh -n 0 cat)" ''
is '-n behind' "$(echo in | bprsh 0 -n cat)" ''
status 'somebody else' 255 bprsh -l nobody 0 true
has 'and who' "$(bprsh -l nobody 0 true 2>&1)" 'bprsh: not as nobody: *'
status 'an unknown option' 255 bprsh -Z 0 true 2>/dev/null

# 3 the line is the shell's, which stands in place of the command
is 'one line' "$(bprsh 0 echo 'a  b' '"c  d"' \; hostname)" "$(printf 'a b c  d\nn0')"
status 'its status' 3 bprsh 1 exit 3
status 'its signal' 137 bprsh 1 'kill -9 $$' 2>/dev/null
bprsh 1 'echo $$' >"$t/pid" &
wait $!
is 'its pid' "$(cat "$t/pid")" $!
bprsh 1 'echo up; exec sleep 100' >"$t/up" &
within 20 'it runs there' test -s "$t/up"
kill $!
wait $!
is 'a signal to it' $? 143

# 4 MPICH's launcher, with ranks that are processes of the front end
rank='echo $PMI_RANK $(hostname)'
mpi=(mpiexec.hydra -launcher rsh -launcher-exec bprsh -hosts '0,1,n2' -n 6)
is 'six ranks' "$("${mpi[@]}" sh -c "$rank" | sort | tr '\n' ' ')" '0 n0 1 n1 2 n2 3 n0 4 n1 5 n2 '
status 'the status of a rank' 5 "${mpi[@]}" sh -c 'exit $((PMI_RANK == 4 ? 5 : 0))'
"${mpi[@]}" sh -c 'exec sleep 3217' >"$t/mpi" 2>&1 &
all() { [ "$(pgrep -cfx 'sleep 3217')" -eq "$1" ]; }
within 20 'its ranks are here' all 6
kill $!
wait $!
within 20 'its end is theirs' all 0
finish
