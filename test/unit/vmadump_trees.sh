#!/usr/bin/env bash
# Programs with children, all of them taken in the middle of their work and put back: $1
# vmadump, $2 the directory of the test programs.
bin=$2
# shellcheck source=/dev/null
. "$(dirname "$(readlink -f "$0")")/vmadump_lib.sh"
# shellcheck disable=SC2034 # the library has it
dump_flags=(-t)

for ((i = 0; i < 150; i++)); do echo $i; done >want
echo "tree ok" >>want
carried tree 20 want "$bin/test_vmadump_tree" 150

# A debugger reads the first as it is, the others when they are taken out.
"$vmadump" info tree.image >said || fail 'info'
n=$(grep -c '^[0-9].* test_vmadump_tr$' said)
[ "$n" -eq 8 ] && [ "$(grep -c zombie said)" -eq 2 ] || fail "info: $(cat said)"
for p in $(awk '/^[0-9].* test_vmadump_tr$/ && !/zombie/ {print $1}' said); do
	"$vmadump" extract "$p" tree.image member || fail "extract $p"
	gdb -nx -batch -ex 'info registers rip' "$bin/test_vmadump_tree" member >gdb 2>&1
	grep -q '^rip ' gdb || fail "gdb: $(cat gdb)"
done
cp member before
"$vmadump" extract 4000000 tree.image member 2>said && fail 'who is not in it is taken out'
cmp member before || fail 'what is not taken out replaces a file'
"$vmadump" extract 4000000 tree.image nobody 2>said
[ ! -e nobody ] || fail 'an empty file is left'
"$vmadump" restore member 2>said && fail 'one of a tree is restored by itself'
grep -qF 'one process of a tree' said || fail "one of a tree: $(cat said)"
"$vmadump" restore -n tree.image 2>said && fail 'a tree under other ids'
grep -qF 'they need their own ids' said || fail "other ids: $(cat said)"

for ((i = 1; i <= 60; i++)); do echo "$i $((i * i))"; done >want
echo "bash ok" >>want
# shellcheck disable=SC2016
carried bash 10 want bash -c '
	for ((i = 1; i <= 60; i++)); do x=$(sleep 0.02; echo $((i * i))); echo "$i $x"; done
	echo bash ok'

# Locks of descriptions that two of them have: with the first, and without it.
{ seq 40; echo 'lock ok'; } >want
# shellcheck disable=SC2016
carried lock 10 want perl -e '$| = 1; use Fcntl ":flock";
	open(F, ">", "one") && open(G, ">", "two") && flock(F, LOCK_EX) && flock(G, LOCK_SH) or die;
	for (1, 2) { unless (fork) { 1 while !-e "end" && !select undef, undef, undef, 0.01; exit } }
	close G;
	for (1 .. 40) {
		open(H, ">", "one") && open(I, ">", "two") or die;
		print "$_\n";
		exit 1 if flock(H, LOCK_SH | LOCK_NB) || flock(I, LOCK_EX | LOCK_NB);
		select undef, undef, undef, 0.05;
	}
	open(E, ">", "end"); wait; wait; print "lock ok\n"'
:
