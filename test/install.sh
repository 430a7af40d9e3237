#!/bin/bash
# install.sh BUILD SOURCE: installs into an empty stage, moves the stage, and
# builds a program against it as users do: with pkg-config, with find_package,
# statically; and the header as C99 and as C++.
set -eu
build=$1 src=$2
tmp=$(mktemp -d "${TMPDIR:-/tmp}/bproc-install.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
cmake --install "$build" --prefix "$tmp/first" >"$tmp/log" || { cat "$tmp/log"; exit 1; }
mv "$tmp/first" "$tmp/stage" # what is installed must not remember where
for f in bin/bpsh bin/bpstat bin/bpctl bin/bpps bin/bpmove bin/bpgdb bin/bpstrace bin/bplab include/sys/bproc.h include/bproc.h; do
	test -e "$tmp/stage/$f" || { echo "not installed: $f"; exit 1; }
done
PKG_CONFIG_PATH=$(dirname "$(find "$tmp/stage" -name bproc.pc)")
export PKG_CONFIG_PATH
lib=$(dirname "$PKG_CONFIG_PATH")

# shellcheck disable=SC2046
cc -Wall -Werror "$src/examples/hello.c" $(pkg-config --cflags --libs bproc) -o "$tmp/shared"
# shellcheck disable=SC2046
cc "$src/examples/hello.c" $(pkg-config --cflags --static --libs bproc) -static -o "$tmp/static"
LD_LIBRARY_PATH=$lib ldd "$tmp/shared" | grep -q "$lib/libbproc.so"

mkdir "$tmp/user"
cat >"$tmp/user/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C)
find_package(bproc REQUIRED)
add_executable(hello $src/examples/hello.c)
target_link_libraries(hello PRIVATE bproc::bproc)
END
cmake -S "$tmp/user" -B "$tmp/user/build" -DCMAKE_PREFIX_PATH="$tmp/stage" >"$tmp/log" &&
	cmake --build "$tmp/user/build" >>"$tmp/log" || { cat "$tmp/log"; exit 1; }

echo '#include <sys/bproc.h>
#include <bproc.h>
int main(void) { return 0; }' >"$tmp/h.c"
cc -std=c99 -pedantic -Wall -Werror -I"$tmp/stage/include" -c "$tmp/h.c" -o "$tmp/h.o"
if command -v c++ >/dev/null; then
	c++ -x c++ -Wall -Werror -I"$tmp/stage/include" -c "$tmp/h.c" -o "$tmp/h.o"
fi
echo "ok - installed, moved, built against in four ways"
