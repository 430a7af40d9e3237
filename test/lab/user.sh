#!/bin/bash
# A whole lab of an ordinary user, in a user namespace. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
ok 'not root outside' sh -c "! grep -q '^ *0 *0 ' /proc/self/uid_map"
is 'nodes' "$(bpstat -s 0,1 | tr '\n' ' ')" 'up up '
is 'bpsh' "$(bpsh -a hostname | sort | tr '\n' ' ')" 'n0 n1 '
ok 'rfork, exec and roam' "$LAB_PROGRAMS/exec_dynamic"
ok 'roam' "$LAB_PROGRAMS/roam_dynamic"
has 'examples' "$("$LAB_EXAMPLES/roam")" '*n0 n1 and is home again'
finish
