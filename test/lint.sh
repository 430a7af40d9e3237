#!/usr/bin/env bash
# lint.sh WHAT TREE: one check of the house's style over all files of the tree.
set -u
what=$1
cd "$2" || exit 1
mapfile -t sources < <(find . \( -name .git -o -name 'build*' \) -prune -o \
	-name '*.[ch]' -type f -print | sort)
mapfile -t scripts < <(find . \( -name .git -o -name 'build*' \) -prune -o -type f -print0 |
	xargs -r0 grep -lIm1 -E '^#!.*\b(ba)?sh\b' | sort)

case $what in
lines) # no line over 100 columns, tabs of 8; a line with a string may be greppable
	awk 'FNR == 1 {n = 0}
	{
		line = $0; col = 0
		for (i = 1; i <= length(line); i++)
			col = substr(line, i, 1) == "\t" ? col + 8 - col % 8 : col + 1
		if (col > 100 && line !~ /"/) {printf "%s:%d: %d columns\n", FILENAME, FNR, col; bad = 1}
		if (line ~ /[ \t]$/) {printf "%s:%d: white space at the end\n", FILENAME, FNR; bad = 1}
	}
	END {exit bad}' "${sources[@]}" ;;
functions) # none over 100 lines, unless the line above it says why
	awk '/^[a-z].*\(/ && !/;$/ {start = FNR; name = $0; excuse = prev ~ /long:/}
	/^{/ {if (start) body = FNR}
	/^}/ {
		if (start && body && FNR - body > 100 && !excuse) {
			printf "%s:%d: %d lines: %s\n", FILENAME, start, FNR - body, name; bad = 1
		}
		start = body = 0
	}
	{prev = $0}
	END {exit bad}' "${sources[@]}" ;;
words) # calls that overrun, and gaps that do not say what they break
	! grep -nE '\b(sprintf|strcat|gets|vsprintf|alloca|tmpnam|mktemp)\(|FIXME|\bXXX\b|TODO([^(]|$)' \
		"${sources[@]}" ;;
comments) # each .c says what it owns
	bad=0
	for f in "${sources[@]}"; do
		case $f in *.c) ;; *) continue ;; esac
		case $(head -c 2 "$f") in
		'/*' | '//') ;;
		*) echo "$f: does not open with a comment"; bad=1 ;;
		esac
	done
	exit $bad ;;
manual) # the pages are right, and no example names what is not there
	command -v mandoc >/dev/null || { echo "skipped: no mandoc here"; exit 77; }
	mandoc -T lint -W warning doc/man/*.[1-8] ;;
options) # every option that a program takes is in its manual page
	bad=0
	for f in $(grep -l 'getopt_long(' commands/*.c masterd/*.c slaved/*.c); do
		page=$(basename "${f%.c}")
		page=$(echo doc/man/"${page%_args}".[18])
		[ -f "$page" ] || continue # bpinit's: nobody starts it by hand
		told=" $(sed -n 's/^\.It Fl //p' "$page" | tr ',' ' ' | sed 's/\bFl\b//g' | tr '\n' ' ') "
		for o in $(sed -n '/struct option /,/};/p' "$f" | grep -oE '\{"[a-z-]+"' | tr -d '{"' |
				sed 's/^/-/') \
			$(grep -oE 'getopt_long\([^"]*"[^"]*"' "$f" | cut -d'"' -f2 | tr -d '+:' | fold -w1); do
			case $told in *" $o "*) ;; *) echo "$page: no -$o"; bad=1 ;; esac
		done
	done
	exit $bad ;;
models) # the functions that a model's steps are said to be are in the files that are named
	awk -F'|' 'FNR == NR && /^\| `.*\(\)`/ {
		n = split($3, word, "`")
		first = many = 0
		for (i = 2; i <= n; i += 2) {
			if (word[i] ~ /\(\)$/) {
				name[many++] = substr(word[i], 1, length(word[i]) - 2)
				continue
			}
			for (; first < many; first++)
				if (system("grep -qsE \"^[a-z].*[ *]" name[first] "[(]\" " word[i])) {
					printf "%s() is not in %s\n", name[first], word[i]; bad = 1
				}
		}
		if (first < many) {printf "%s(): in which file?\n", name[first]; bad = 1}
		rows++
	}
	END {exit bad || rows == 0}' doc/models/README.md ;;
shell)
	command -v shellcheck >/dev/null || { echo "skipped: no shellcheck here"; exit 77; }
	shellcheck -S warning -e SC2154 "${scripts[@]}" ;;
*) echo "unknown check $what"; exit 2 ;;
esac
