#!/usr/bin/env bash
# installed.sh BUILD SOURCE: what is installed is a whole: into a prefix that it was not configured
# for, and moved from there. All of it is there, each command starts with nothing set, a lab made
# of it alone runs a program that was built against it, and a daemon says so, and its node, if what
# belongs to it is not there or does not start.
set -u
build=$1 source=$2
tmp=$(mktemp -d "${TMPDIR:-/tmp}/bproc-installed.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0
fail() { echo "FAILED: $*"; bad=1; }

cmake --install "$build" --prefix "$tmp/first" >"$tmp/log" || { cat "$tmp/log"; exit 1; }
mv "$tmp/first" "$tmp/stage"
bin=$tmp/stage/bin

while read -r f; do
	[ -s "$tmp/stage/$f" ] || fail "not installed: $f"
done < <(cd "$source" && {
	for f in include/*.h include/*/*.h; do echo "$f"; done
	for f in doc/man/*; do echo "share/man/man${f##*.}/${f##*/}"; done
	for f in packaging/*.service; do echo "lib/systemd/system/${f##*/}"; done
	for f in doc/*.md README.md NEWS.md packaging/config.sample; do echo "share/doc/bproc/${f##*/}"; done
})
for f in "$bin"/* "$tmp"/stage/sbin/*; do
	env -i "$f" --version >"$tmp/said" 2>&1 || fail "${f##*/} --version: $(cat "$tmp/said")"
done
mv "$tmp/stage/libexec/bproc/bpdata" "$tmp/bpdata"
"$tmp/stage/sbin/bpslave" -e -k "$tmp/no_key" localhost 2>"$tmp/said" && fail "a bpslave without bpdata starts"
grep -q "cannot run .*bpdata: No such file" "$tmp/said" || fail "without bpdata: $(cat "$tmp/said")"
mv "$tmp/bpdata" "$tmp/stage/libexec/bproc/bpdata"
[ $bad = 0 ] || exit 1

if ! env -i PATH="$PATH" "$bin/bplab" --bare -n 1 -- true; then
	echo "skipped: no lab can be made here (see above)"
	exit 77
fi
cat >"$tmp/there.sh" <<'END'
set -e
[ "$(bpsh 0 hostname)" = n0 ]
cd "$1"
cc -Wall -Werror "$2/examples/hello.c" $(pkg-config --cflags --libs bproc) -o hello
ldd hello | grep -q "$1/stage/.*/libbproc.so"
./hello | sort >said
grep -q "from node 0" said || { cat said; exit 1; }
# A bpinit that does not come up: a call that waits for it is told.
bplab stop-slave 0
bplab wait -s unreachable 0
bplab exec 0 sh -c 'kill -9 $(pidof bpinit)'
bplab exec 0 sh -c "exec $1/stage/sbin/bpslave -k $BPLAB/key --bpinit /bin/true 10.77.0.1" &
slave=$!
bplab wait 0
if bpsh 0 hostname >said 2>&1; then
	echo "a program runs on a node without bpinit"
	exit 1
fi
grep -q "node 0" said || { cat said; exit 1; }
kill $slave
END
mkdir "$tmp/logs"
env -i PATH="$PATH" timeout -k 5 100 "$bin/bplab" -n 1 -l "$tmp/logs" -- \
	bash "$tmp/there.sh" "$tmp" "$source" || {
	fail "the lab of what is installed: status $?"
	tail -n 40 "$tmp"/logs/*
}
exit $bad
