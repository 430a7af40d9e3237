#!/bin/bash
# The names that the libraries export, those in the headers, in the symbol map and in
# the manual pages are the same; and each comment of the header says all it has to.
# usage: api_names.sh LIBBPROC LIBVMADUMP SOURCEDIR
set -u
lib=$1 vmadump=$2
cd "$3" || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
bad=0

# names PREFIX HEADER: the names of the library in $tmp/exported, compared with all that tells of them
names() {
	local prefix=$1 what
	cc -E -P -Iinclude "$2" | tr '\n' ' ' | tr ';' '\n' |
		grep -oE "\b_?${prefix}_[a-z]+[a-z0-9_]*\(" | tr -d '(' | sort -u >"$tmp/header"
	cat doc/man/*.3 | sed -n "s/^\.Nm \(_*${prefix}_[a-z0-9_]*\).*/\1/p" | sort -u >"$tmp/man"
	cat doc/man/*.3 | sed -n "s/^\.Fn \(_*${prefix}_[a-z0-9_]*\) .*/\1/p;s/^\.Fo \(_*${prefix}_[a-z0-9_]*\)$/\1/p" |
		sort -u >"$tmp/synopsis"
	for what in header man synopsis "${@:3}"; do
		if ! diff "$tmp/exported" "$tmp/$what" >"$tmp/diff"; then
			echo "FAILED: exported names (<) and those of the $what (>) differ:"
			cat "$tmp/diff"
			bad=1
		fi
	done
}

nm --defined-only "$vmadump" | awk '$2 ~ /[TDBR]/ {print $3}' | sort >"$tmp/exported"
names vmad include/vmadump.h
nm -D --defined-only "$lib" | awk '$2 ~ /[TDBR]/ {sub(/@.*/, "", $3); print $3}' | sort >"$tmp/exported"
sed -n 's/^\t\(_*bproc_[a-z0-9_]*\);$/\1/p' libbproc/libbproc.map | sort >"$tmp/map"
names bproc include/bproc.h map

# Every function's comment has these words, and names each argument.
awk '/^\/\*\*/ {text = ""; in_c = 1}
	in_c {text = text $0 "\n"}
	/\*\// {in_c = 0}
	!in_c && /^[a-z].*[ *]_?(bproc|vmad)_[a-z0-9_]+\(/ {proto = ""; in_p = 1}
	in_p {proto = proto $0}
	in_p && /;/ {
		in_p = 0
		match(proto, /_?(bproc|vmad)_[a-z0-9_]+\(/)
		name = substr(proto, RSTART, RLENGTH - 1)
		if (text !~ name "\\(\\) - ") {print name ": no comment"; bad = 1}
		n = split("Errors Blocks Threads Since:Source:", words, /[ :]/)
		for (i = 1; i <= n; i++)
			if (words[i] != "" && index(text, words[i]) == 0) {print name ": no " words[i]; bad = 1}
		args = substr(proto, RSTART + RLENGTH)
		sub(/\);.*/, "", args)
		while (match(args, /\(\*[a-z0-9_]+\)\([^()]*\)/)) { # a function to be called: its name
			f = substr(args, RSTART + 2, RLENGTH - 2)
			sub(/\).*/, "", f)
			args = substr(args, 1, RSTART - 1) " " f substr(args, RSTART + RLENGTH)
		}
		if (args !~ /^void$/) {
			m = split(args, a, ",")
			for (i = 1; i <= m; i++) {
				gsub(/\[\]/, "", a[i]); sub(/.*[ *]/, "", a[i])
				if (index(text, "@" a[i] ":") == 0 && index(text, "@" a[i] ",") == 0) {
					print name ": argument " a[i]; bad = 1
				}
			}
		}
		text = ""
	}
	END {exit bad}' include/*.h include/sys/bproc.h || bad=1
[ $bad = 0 ] && echo "$(wc -l <"$tmp/exported") names"
exit $bad
