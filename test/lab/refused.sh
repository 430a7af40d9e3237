#!/bin/bash
# Daemons that must not start, or must not be let in: each says why, naming the
# thing. 2 nodes.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

config() { # lines from standard input after the lab's own
	cat /run/bplab/config - >"$t/config"
}
master_says() { # TEXT PATTERN: bpmaster with $t/config ends with an error that matches
	local out
	out=$(BPROC_RUN_DIR=$t/run timeout 5 bpmaster -c "$t/config" 2>&1 </dev/null)
	got=$?
	if [ $got -eq 0 ] || [ $got -eq 124 ]; then
		bad "$1: bpmaster ended with $got: $out"
	else
		has "$1" "$out" "$2"
	fi
}
mkdir "$t/run"

echo 'nonsense yes' | config
master_says 'an unknown keyword' '*config:*nonsense*'
echo 'pingtimeout soon' | sed '/^pingtimeout/d' /run/bplab/config - >"$t/config"
echo 'pingtimeout soon' >>"$t/config"
master_says 'a bad value' '*config:*soon*'
echo 'imageencryption maybe' | config
master_says 'neither yes nor no' '*config:*maybe*'
rm "$t/config"
master_says 'no such file' '*config*'

cp /run/bplab/key "$t/key"
sed "s|^keyfile.*|keyfile $t/key|" /run/bplab/config >"$t/config"
chmod 0440 "$t/key"
master_says 'a key that others may read' "*$t/key*0440*"
chmod 0400 "$t/key"
echo short >"$t/key2"; chmod 0400 "$t/key2"
sed "s|^keyfile.*|keyfile $t/key2|" /run/bplab/config >"$t/config"
master_says 'a key that is too short' "*$t/key2*"
sed "s|^keyfile.*|keyfile $t/nokey|" /run/bplab/config >"$t/config"
master_says 'no key' "*$t/nokey*"

cp /run/bplab/config "$t/config"
master_says 'the port is in use' '*2223*'

# A slave in a node's namespaces, beside the real one
slave() { # NODE KEY
	timeout 6 bplab exec "$1" env BPROC_RUN_DIR="$t/run2" bpslave -k "$2" --data-port 3333 \
		10.77.0.1 2>&1
}
mkdir "$t/run2"
head -c 64 /dev/urandom >"$t/wrong"; chmod 0400 "$t/wrong"

bplab stop-slave 1
within 10 'n1 is down' node_is 1 down
slave 1 "$t/wrong" >"$t/out"
ok 'a wrong key is logged by the master' sh -c 'bplab logs master | grep -i "10.77.1.2.*key"'
has 'and shown' "$(bpstat -l 1)" '*down*'
ok 'once' test "$(bplab logs master | grep -ci '10.77.1.2.*key')" -le 2
ok 'the slave says it too' grep -qi key "$t/out"
bplab start-slave 1
within 10 'n1 is up' node_is 1 up

# A second one with the right key and the same address
slave 1 /run/bplab/key >"$t/out"
has 'a duplicate is refused, which it says once' "$(grep -c 'no link to the master' "$t/out")$(cat "$t/out")" \
	'1*no link to the master: refused: a second slave; node 1 is connected*; trying on'
has 'and bpstat' "$(bpstat -l 1)" '*up*(refused: a second slave; node 1 is connected*)'
is 'the first stays' "$(bpstat -s 1)" up
is 'and works' "$(bpsh 1 hostname)" n1
ok 'a second slave on the same run directory' sh -c \
	'bplab exec 1 timeout 3 bpslave -k /run/bplab/key 10.77.0.1 2>&1 | grep -i "running\|in use\|busy\|already"'
finish
