#!/bin/sh
# What ./dev demo runs on the front end of a fresh cluster of four nodes.
examples=$(dirname "$(command -v bplab)")/../examples

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }

title 'The nodes of the cluster (bpstat):'
bpstat

title 'A command on every node (bpsh -a -p hostname):'
bpsh -a -p hostname

title 'A process that goes round the nodes (examples/roam):'
"$examples/roam"

title 'Primes up to 10,000,000,000, two parts on each node (examples/primes).'
"$examples/primes" 10000000000 2 &
job=$!
sleep 2

title 'Meanwhile, the processes as the front end sees them (pstree):'
pstree -pa "$job"
title 'and where each of them really runs (bpstat -p):'
bpstat -p

title 'The answer:'
wait "$job"
status=$?
[ $status -eq 0 ] && title 'A shell on such a cluster: ./dev lab'
exit $status
