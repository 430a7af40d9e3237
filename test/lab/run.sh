#!/bin/sh
# run.sh BUILD root|user SECONDS NODES [bplab option...] -- COMMAND...: one test on a lab
# of its own, with a temporary directory of its own, and the daemons' logs shown
# when it fails.
build=$1 who=$2 limit=$3 nodes=$4
shift 4
export LAB_PROGRAMS="$build/test/lab" LAB_EXAMPLES="$build/examples"
LAB_TMP=$(mktemp -d "${TMPDIR:-/tmp}/bproc-test.XXXXXX") || exit 1
export LAB_TMP
trap 'rm -rf "$LAB_TMP"' EXIT
mkdir "$LAB_TMP/log"

as_user=
if [ "$who" = user ] && [ "$(id -u)" -eq 0 ]; then
	chown -R 65534:65534 "$LAB_TMP"
	as_user='setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp'
	if ! $as_user test -x "$build/bin/bplab"; then
		echo "skipped: an ordinary user cannot reach $build"
		exit 77
	fi
fi
if ! $as_user "$build/bin/bplab" --bare -n 1 -- true; then
	echo "skipped: no lab can be made here (see above)"
	exit 77
fi
# The lab's own end by TERM removes all of it.
timeout -k 5 "$limit" $as_user "$build/bin/bplab" -n "$nodes" -l "$LAB_TMP/log" "$@"
status=$?
if [ $status -ne 0 ] && [ $status -ne 77 ]; then
	echo "---- exit status $status; logs:"
	tail -n 60 "$LAB_TMP"/log/*
fi
exit $status
