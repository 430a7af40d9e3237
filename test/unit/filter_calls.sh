#!/bin/sh
# filter_calls.sh SOURCE: every system call of the blob's sources is in its table (calls.h), by
# which a program's seccomp filters are judged, and with the arguments that the table names.
cd "$1/vmadump/blob" || exit 1
failures=0
missing() {
	echo "NOT OK - $*: not in vmadump/blob/calls.h"
	failures=$((failures + 1))
}
table=$(tr -d '\n' <calls.h)
listed() { # PATTERN
	case $table in
	*$1*) ;;
	*) return 1 ;;
	esac
}

# by name
calls=$(grep -hv '^ \*' ./*.[ch] | grep -ho '__NR_[a-z0-9_]*' | sed 's/__NR_//' | sort -u)
[ "$(echo "$calls" | wc -w)" -gt 100 ] || missing 'what was found'
for call in $calls; do
	listed "X($call, " || listed "Y($call, " || missing "$call"
done
# by number: 462 mseal in sys.h, 15 rt_sigreturn and 435 clone3 in assembly
numbers=$(cat ./*.[chS] | grep -oE 'sys[0-6]\([0-9]+|mov\s+\$[0-9]+, %eax' |
	grep -oE '[0-9]+(,|$)' | grep -oE '[0-9]+' | sort -un | xargs)
[ "$numbers" = "15 435 462" ] || missing "a call by its number, of: $numbers"
# no other instruction makes one
made=$(grep -lE '(^[[:space:]]*|"|\\t)syscall' ./*.[chS] | xargs)
[ "$made" = './entry.S ./ghost.c ./ghost_skeleton.c ./sys.h' ] || missing "what one of $made makes"
# by their arguments: what the sources have in its place
flat=$(tr '\n' ' ' <<-EOF | sed 's/sys_/\n&/g'
	$(cat ./*.c)
EOF
)
args() { # CALL N: argument N, as it is written
	printf '%s\n' "$flat" | grep -oE "^sys_$1\([^;]*" |
		sed -E "s/^sys_$1\(//; s/^([^,]*,){$2}[[:space:]]*//; s/[,)].*//; s, /\*.*,," | sort -u
}
for what in 'ioctl 1' 'prctl 0' 'socket 0' 'socketpair 0'; do
	call=${what% *}
	for arg in $(args "$call" "${what#* }"); do
		case $(echo "$table" | grep -oE "Y\($call, [A-Z]*, ${what#* }, [^\"]*\"$arg\"\)") in
		'') missing "$call with $arg" ;;
		esac
	done
done
# personality() is asked for what it is, and told only where another is wanted
[ "$(args personality 0 | xargs)" = "0xffffffff get32(p + 20" ] || missing "$(args personality 0)"
[ $failures -eq 0 ]
