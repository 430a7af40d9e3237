#!/usr/bin/env bash
# fuzz.sh BUILD SECONDS [TARGET...]: each fuzz target for so long, from what is kept
# in corpus/; then the lines that were reached. What breaks a target is left in
# BUILD/fuzz, named on stderr; put it into corpus/TARGET with its mending.
set -u
build=$(readlink -f "$1") seconds=$2
shift 2
here=$(dirname "$(readlink -f "$0")")
[ $# -gt 0 ] || set -- "$here"/corpus/*
declare -A longest=([image]=65536 [live]=1024 [master]=1500 [stream]=400)
work=$build/fuzz bad=0 profiles=() objects=()
mkdir -p "$work"

for target; do
	target=$(basename "$target")
	program=$build/bin/fuzz_$target
	[ -x "$program" ] || { echo "no such target: $target" >&2; exit 2; }
	mkdir -p "$work/$target"
	LLVM_PROFILE_FILE=/dev/null "$program" -max_total_time="$seconds" -rss_limit_mb=2048 \
		-timeout=10 -len_control=0 -max_len="${longest[$target]:-4096}" \
		-artifact_prefix="$work/$target-" "$work/$target" "$here/corpus/$target" \
		>"$work/$target.log" 2>&1 || {
		grep -E 'broken:|runtime error|ERROR|SUMMARY|Test unit written' "$work/$target.log" >&2
		bad=1
	}
	printf '%-8s %s\n' "$target" "$(grep -E '^#[0-9]+' "$work/$target.log" | tail -1)"
	LLVM_PROFILE_FILE=$work/$target.profraw "$program" -runs=0 "$work/$target" \
		"$here/corpus/$target" >/dev/null 2>&1
	profiles+=("$work/$target.profraw")
	objects+=(-object "$program")
done

# Of the files that take in what comes from outside; the rest is not for these to reach.
tool=$(compgen -c llvm-profdata | sort -V | tail -1)
[ -n "$tool" ] || { echo "no llvm-profdata: lines not counted" >&2; exit $bad; }
"$tool" merge -o "$work/all.profdata" "${profiles[@]}" &&
	"${tool/profdata/cov}" report "${objects[@]}" -instr-profile="$work/all.profdata" \
		-ignore-filename-regex='test/|build/|link\.c|log\.c|daemon\.c|keyfile\.c' 2>/dev/null |
	awk 'NR == 1 || /\.c / {printf "%-44s %8s %8s  %s\n", $1, $8, $9, $10}'
exit $bad
