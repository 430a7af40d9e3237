#!/usr/bin/env bash
# Images that are packed: dumped, looked at, restored, as files and as streams; and what is
# damaged, cut short or not what it seems is refused by name. $1 vmadump.
# shellcheck source=/dev/null
. "$(dirname "$(readlink -f "$0")")/vmadump_lib.sh"

# One that goes on, and then one that does not, as a file.
# shellcheck disable=SC2034 # the library has it
dump_flags=(-z)
python3 -c 'for i in range(200): print(i)' >want
carried counts 20 want python3 -c 'import time, sys
text = "x" * 3000000
for i in range(200):
	print(i, flush=True)
	time.sleep(0.02)
sys.exit(0 if len(text) == 3000000 else 1)'
[ "$(head -c 4 counts.image | od -An -tx1 | tr -d ' ')" = 28b52ffd ] || fail 'it is no zstd frame'

# No larger than half of the plain one; zstd alone makes the plain one of it.
start loop python3 -c 'import time
print("ready", flush=True)
while True: time.sleep(0.01)'
lines loop 1
"$vmadump" dump -z "$pid" small.z || fail 'dump -z'
"$vmadump" dump -kv "$pid" plain 2>said || fail 'dump'
grep -q "^vmadump: $(stat -c %s plain) bytes" said || fail "the length of the plain one: $(cat said)"
gone "$pid"
[ $(($(stat -c %s small.z) * 2)) -lt "$(stat -c %s plain)" ] || fail 'it is not half as large'
zstd -dcq small.z >unpacked || fail 'zstd does not read it'
readelf -n unpacked >notes 2>&1 || fail 'readelf does not read what zstd made'
grep -q PRSTATUS notes || fail "readelf finds no registers: $(cat notes)"
for what in check info 'info -l'; do
	# shellcheck disable=SC2086
	"$vmadump" $what unpacked >one 2>&1 || fail "$what of what zstd made: $(cat one)"
	# shellcheck disable=SC2086
	"$vmadump" $what small.z >two 2>&1 || fail "$what: $(cat two)"
	cmp one two || fail "$what says something else of the packed one"
done

# As a stream, of which not a byte more is taken than the frame; -v says how long it is.
start stream python3 -c 'import time
for i in range(100):
	print(i, flush=True)
	time.sleep(0.02)'
lines stream 5
"$vmadump" dump -kvz "$pid" - >streamed 2>said || fail "as a stream: $(cat said)"
gone "$pid"
grep -q "^vmadump: $(stat -c %s streamed) bytes" said || fail "the length: $(cat said)"
{ cat streamed; echo behind; } | { "$vmadump" check - || fail 'check -'; cat; } >behind
[ "$(cat behind)" = behind ] || fail "what follows a frame was read: $(wc -c <behind)"
cat streamed | (close_fds; "$vmadump" restore - >stream.restored 2>&1) ||
	fail "restore -: $(cat stream.restored)"
python3 -c 'for i in range(100): print(i)' | cmp - stream || fail 'the stream: its output'

# A tree: two that count, and what follows the first image is the second's.
start tree bash -c 'for i in {1..60}; do sleep 0.03; echo "$i"; done & for i in {1..60}; do sleep 0.03; echo "$i" >>second; done; wait'
lines tree 5
"$vmadump" dump -ktz "$pid" tree.z || fail 'dump -t'
gone "$pid"
"$vmadump" check tree.z || fail 'check of a tree'
zstd -dcq tree.z >tree.plain
"$vmadump" info tree.plain >one
"$vmadump" info tree.z | cmp - one || fail 'info of a tree'
second=$(awk '/^[0-9]/ && !/zombie/ {p = $1} END {print p}' one)
"$vmadump" extract "$second" tree.z member || fail 'extract'
"$vmadump" extract "$second" tree.plain member.plain
cmp member member.plain || fail 'extract gives another one'
(close_fds; "$vmadump" restore tree.z </dev/null >tree.restored 2>&1) ||
	fail "restore of a tree: $(cat tree.restored)"
[ "$(wc -l <tree) $(wc -l <second)" = '60 60' ] || fail 'the tree: its output'

# -s leaves it stopped, when all is written.
start stopped python3 -c 'import time
print("ready", flush=True)
while True: time.sleep(0.01)'
lines stopped 1
"$vmadump" dump -sz "$pid" stopped.z || fail 'dump -s'
[[ $(sed 's/.*) //' "/proc/$pid/stat") == T* ]] || fail 'it is not stopped'
kill -CONT "$pid"
# What cannot be written is no image, and the program goes on, however it was to end.
for flag in -z -kz -sz; do
	"$vmadump" dump $flag "$pid" /dev/full 2>said && fail "/dev/full $flag"
	grep -q 'No space left on device' said || fail "/dev/full $flag: $(cat said)"
	sleep 0.05
	[[ $(sed 's/.*) //' "/proc/$pid/stat") == [SR]* ]] || fail "/dev/full $flag: it does not run"
done
"$vmadump" dump -kz "$pid" - 2>said | head -c 10 >ten
grep -q 'Broken pipe' said || fail "a pipe that nobody reads: $(cat said)"
kill -0 "$pid" || fail 'a pipe that nobody reads: it is gone'
kill -9 "$pid"
gone "$pid"

# bad TEXT FILE: check and restore say TEXT and the name, and nothing is left
bad() {
	local what
	for what in check 'restore -n'; do
		# shellcheck disable=SC2086
		timeout 60 "$vmadump" $what "$2" >said 2>&1 && fail "$what $2 succeeds"
		grep -q "^vmadump: $2: .*$1" said || fail "$what $2, not '$1': $(cat said)"
	done
}
size=$(stat -c %s small.z)
for n in 4 5 9 100 $((size / 3)) $((size - 5)) $((size - 1)); do
	head -c "$n" small.z >"cut.$n"
	bad 'cut short' "cut.$n"
done
for n in 1 3; do
	head -c "$n" small.z >"cut.$n"
	bad 'cut short' "cut.$n"
done
# A bit of the pages, which have no sum of their own: the frame's tells. Other bits: anything,
# but an answer; the last four bytes are the sum. Some bits of a frame say nothing (RFC 8878,
# 3.1.1.1.1: the unused one, and what pads a table): with them the image is the same.
python3 -c 'import random, sys
d = open("small.z", "rb").read()
random.seed(7)
for i in range(24):
	e = bytearray(d)
	e[len(d) - 2 if i == 0 else random.randrange(4, len(d))] ^= 1 << random.randrange(8)
	open("flip.%d" % i, "wb").write(e)
	'
bad 'checksum' flip.0
for ((i = 1; i < 24; i++)); do
	zstd -dqc <"flip.$i" 2>/dev/null | cmp -s - unpacked || bad '' "flip.$i"
done
head -c 300000 /dev/urandom | { printf '\x28\xb5\x2f\xfd'; cat; } >noise
bad '' noise
# Not an image; more behind it; a window larger than there may be; more than any memory has.
head -c 300000 /dev/zero | zstd -q >zeros.z
bad 'not an image' zeros.z
{ cat unpacked; head -c 3000000 /dev/zero; } | zstd -q >more.z
bad 'more is packed than it' more.z
{ cat unpacked; head -c 300000000 /dev/zero; } | zstd -q --long=28 >window.z
bad 'too much memory' window.z
zstd -q -19 unpacked -o other.z
"$vmadump" check other.z || fail 'another level'
:
