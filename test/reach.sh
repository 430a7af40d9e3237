#!/usr/bin/env bash
# reach.sh COMMAND...: COMMAND, where an ordinary user can reach this tree. Tests that act as one
# need that, and root's home lets nobody in. Then COMMAND has a mount namespace of its own, in which
# the directory that is in the way is covered by one that has nothing but the tree.
set -euo pipefail
self=$(readlink -f "$0")
tree=$(dirname "$(dirname "$self")")
reaches() { setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$1"; }

if [ "${1:-}" != --covered ]; then
	if [ "$(id -u)" -ne 0 ] || reaches "$tree" || ! unshare --mount true; then
		exec "$@"
	fi
	exec unshare --mount --propagation private "$self" --covered "$PWD" "$@"
fi
back=$2
shift 2
barred=$tree
while ! reaches "$(dirname "$barred")"; do barred=$(dirname "$barred"); done
if [ "$barred" != "$tree" ]; then
	cd "$tree"
	mount -t tmpfs -o mode=0755 tmpfs "$barred"
	mkdir -p "$tree"
	# What "." is lies under the cover; by its name it would be what has just been made.
	mount --no-canonicalize --bind . "$tree"
fi
cd "$back"
exec "$@"
