#!/usr/bin/env bash
# model.sh TREE: the model of doc/models, checked by spin: as it is, which must find
# nothing, and with each of its rules taken out, which must find something.
# Everything in two passes of as many checks at once as there are processors (2 at most).
set -u
models=$1/doc/models
for tool in spin cc; do
	command -v $tool >/dev/null || { echo "model.sh: $tool is not here"; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# check NAME SPIN_DEFINES CC_DEFINES PAN_OPTIONS: what pan says, in $work/NAME.out
check() {
	local name=$1 dir=$work/$1
	mkdir -p "$dir"
	cp "$models"/*.pml "$dir"
	(
		cd "$dir" || exit 1
		# shellcheck disable=SC2086
		spin $2 -a move.pml && cc -w $3 -DVECTORSZ=2048 -DMEMLIM=1800 -o pan pan.c &&
			./pan -n -m100000 $4
	) >"$work/$name.out" 2>&1
	rm -rf "$dir"
}

# No error, and the search was complete.
holds() {
	if grep -q 'errors: 0$' "$work/$1.out" && ! grep -qE 'not completed|out of memory|max search depth' \
		"$work/$1.out"; then
		echo "ok: $1: $(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1 states/p' "$work/$1.out"),$(
			sed -n 's/^pan: elapsed time//p' "$work/$1.out")"
	else
		echo "FAILED: $1"
		tail -n 30 "$work/$1.out"
		bad=1
	fi
}

# The rule is needed: an assertion fails without it.
breaks() {
	if grep -q '^pan:1: assertion violated' "$work/$1.out"; then
		echo "ok: $1 is found: $(sed -n 's/^pan:1: //p' "$work/$1.out")"
	else
		echo "FAILED: $1 is not found"
		tail -n 30 "$work/$1.out"
		bad=1
	fi
}

bad=0
run() { # waits while two run
	while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
	check "$@" &
}

one='-DBUDGET=1'
# To optimize the checker takes longer than most runs of it (7 s in place of 2.5).
safe='-O0 -DSAFETY -DHC4'
big='-O1 -DSAFETY -DHC4'
run opposite "-DSCENE=1 $one -DPROMPT" "$big" ''
run back "-DSCENE=2 $one" "$safe" ''
run back_ends "-DSCENE=2 $one -DEXITS" "$safe" ''
run back_untold "-DSCENE=2 $one -DUNTOLD" "$safe" ''
run back_untold_ends "-DSCENE=2 $one -DUNTOLD -DEXITS" "$safe" ''
run on_untold "-DSCENE=3 $one -DPROMPT -DUNTOLD" "$safe" ''
run on "-DSCENE=3 $one -DPROMPT" "$big" ''
run again "-DSCENE=4 $one" "$safe" ''
run again_ends "-DSCENE=4 $one -DEXITS" "$safe" ''
run again_untold "-DSCENE=4 $one -DUNTOLD" "$safe" ''
# Every run comes to an end: there is no cycle at all.
run back_stops "-DSCENE=2 $one" '-O1 -DNP -DHC4' '-l'
run again_stops "-DSCENE=4 $one" '-O0 -DNP -DHC4' '-l'

broken=(
	'BREAK_THAW 2' 'BREAK_EPOCH 2' 'BREAK_RECORD 2' 'BREAK_FENCE 2' 'BREAK_GRANT 2' 'BREAK_EXIT 2'
	'BREAK_MIRROR 2' 'BREAK_NEWER 3' 'BREAK_TURNING 2' 'BREAK_ASKED 2' 'BREAK_NODATA 2'
	'BREAK_AGAIN 4' 'BREAK_WAIT 4' 'BREAK_LEFT 3' 'BREAK_HOME 2' 'BREAK_TARGET 2' 'BREAK_NATIVE 3' 'BREAK_WORD 2'
)
for b in "${broken[@]}"; do
	read -r name scene <<<"$b"
	two=1
	ends=
	prompt=-DPROMPT
	case $name in
	BREAK_ASKED) prompt= ;;
	BREAK_TARGET | BREAK_HOME) two=2 ;;
	BREAK_EXIT | BREAK_MIRROR | BREAK_LEFT) ends=-DEXITS ;;
	esac
	run "$name" "-DSCENE=$scene -DBUDGET=$two $prompt -D$name $ends" "$safe" ''
done
wait

for name in opposite back back_ends back_untold back_untold_ends on_untold on again again_ends \
	again_untold back_stops again_stops; do holds $name; done
for b in "${broken[@]}"; do breaks "${b% *}"; done
exit $bad
