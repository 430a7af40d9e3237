#!/bin/sh
# run.sh DAEMONS-BUILD PROGRAM-BUILD [chaos option...]: the chaos test on a lab of six
# nodes. The daemons' logs stay when it fails, and it says where.
daemons=$1 programs=$2
shift 2
nodes=${CHAOS_NODES:-6}
export CHAOS_PING="${CHAOS_PING:-2}"
LAB_TMP=$(mktemp -d "${TMPDIR:-/tmp}/bproc-chaos.XXXXXX") || exit 1
export LAB_TMP CHAOS_LOGS="$LAB_TMP/log"
mkdir "$CHAOS_LOGS"
if ! "$daemons/bin/bplab" --bare -n 1 -- true; then
	echo "skipped: no lab can be made here (see above)"
	rm -rf "$LAB_TMP"
	exit 77
fi
# shellcheck disable=SC2086
"$daemons/bin/bplab" ${CHAOS_VERBOSE:-} -n "$nodes" -o pingtimeout="$CHAOS_PING" -l "$CHAOS_LOGS" -- \
	"$programs/test/lab/chaos" "$@"
status=$?
if [ $status -eq 0 ] || [ "${CHAOS_KEEP:-yes}" = no ]; then
	rm -rf "$LAB_TMP"
else
	echo "exit status $status; the daemons' logs are in $CHAOS_LOGS"
fi
exit $status
