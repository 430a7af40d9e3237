#!/bin/bash
# The headers as C99 and C++, and users of the library: built by pkg-config from the
# build tree and from a staged install that is moved afterwards, shared and static,
# and by find_package. Each is run.
# usage: api_build.sh BUILDDIR SOURCEDIR
set -eu
build=$1 source=$2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
warn="-Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Werror"

for h in bproc.h sys/bproc.h; do
	for std in c99 c11 gnu17; do
		printf '#include <%s>\nint main(void){return BE_INVALIDNODE - 300;}\n' $h >t.c
		cc -std=$std $warn -I"$source/include" -fsyntax-only t.c
	done
	if command -v c++ >/dev/null; then
		cp t.c t.cc
		for std in c++98 c++17; do
			c++ -std=$std -Wall -Wextra -Wno-variadic-macros -Werror \
				-I"$source/include" -fsyntax-only t.cc
		done
	fi
done

# Layouts and numbers that programs of BProc 4 were compiled with.
cat >abi.c <<'X'
#include <stddef.h>
#include <sys/bproc.h>
#define is(e) _Static_assert(e, #e)
is(sizeof(struct bproc_version_t) == 32 && offsetof(struct bproc_version_t, version_string) == 8);
is(sizeof(struct bproc_node_info_t) == 48 && offsetof(struct bproc_node_info_t, addr) == 32);
is(offsetof(struct bproc_node_info_t, mode) == 20);
is(sizeof(struct bproc_node_set_t) == 16 && sizeof(struct bproc_proc_info_t) == 8);
is(offsetof(struct bproc_io_t, d) == 8 && sizeof(struct bproc_io_t) == 280);
is(BPROC_NODE_MASTER == -1 && BPROC_NODE_SELF == -2 && BPROC_NODE_NONE == -3);
is(BPROC_NODE_ANY == -4 && BPROC_STATUS_NONE == -2 && BPROC_X_OK == 1);
is(BPROC_DUMP_LIBS == 1 && BPROC_DUMP_EXEC == 2 && BPROC_DUMP_OTHER == 4 && BPROC_DUMP_ALL == 7);
is(BE_INVALIDNODE == 300 && BE_NODEDOWN == 301 && BE_SAMENODE == 302);
is(BE_SLAVEDIED == 303 && BE_INVALIDPROC == 304 && BPROC_STATE_LEN == 15);
is(BPROC_IO_MAX_LEN == 16 && BPROC_IO_MEMFILE == 2 && BPROC_IO_DELAY == 2);
is(BPROC_XATTR_MAX_NAME_SIZE == 63 && BPROC_XATTR_MAX_VALUE_SIZE == 64 && BPROC_XATTR_MAX == 32);
is(BPROC_API_VERSION == 4 && BPROC_ARCH_PPC64 == 5 && BPROC_ARCH == 4);
int (*f1)(int, int *, int *, const char *, char *const[], char *const[]) = bproc_vexecmove;
int (*f2)(int, char *) = bproc_nodesetstatus;
int (*f3)(struct bproc_node_set_t *, struct bproc_node_set_t *, const char *) = bproc_nodefilter;
int (*f4)(int, const char *, char *const[], char *const[]) = bproc_rexec;
X
cc -std=gnu11 -Wall -Werror -I"$source/include" -fsyntax-only abi.c

# A user with names of its own that the library has inside.
cat >user.c <<'X'
#include <bproc.h>
#include <stdio.h>
#include <string.h>
int close_fd(void), write_full(void), api_ret(void);
int close_fd(void) { return 1; }
int write_full(void) { return 2; }
int api_ret(void) { return 3; }
int main(void)
{
	struct bproc_node_set_t ns = BPROC_EMPTY_NODESET;
	if (bproc_nodeset_init(&ns, 3) || bproc_numnodes() != -1)
		return 1;
	bproc_nodeset_free(&ns);
	puts(bproc_strerror(BE_NODEDOWN));
	return close_fd() + write_full() + api_ret() != 6 || !strstr(bproc_errtext(), "not set up");
}
X
export BPROC_RUN_DIR=/nonexistent
flags() { PKG_CONFIG_PATH=$1 pkg-config --cflags --libs ${2-} bproc; }
run() { [ "$("$@")" = "Node is down" ] || { echo "FAILED: $*"; exit 1; }; }

# shellcheck disable=SC2046
cc user.c -o tree $(flags "$build/lib/pkgconfig")
run ./tree

cmake --install "$build" --prefix "$tmp/stage" >install.log
mv stage moved
pc=$(dirname "$(find moved -name bproc.pc)")
# shellcheck disable=SC2046
cc user.c -o shared $(flags "$pc")
run env LD_LIBRARY_PATH="$pc/.." ./shared
readelf -d shared | grep -q 'NEEDED.*libbproc\.so\.0\]' || { echo "FAILED: not linked to the soname"; exit 1; }
# shellcheck disable=SC2046
cc -static user.c -o static $(flags "$pc" --static)
run ./static

# vmadump beside libbproc, which has most of it inside; a name of vmadump's own is free for the user.
cat >image.c <<'X'
#define _GNU_SOURCE
#include <bproc.h>
#include <stdio.h>
#include <unistd.h>
#include <vmadump.h>
int image_check(void), trace_find(void);
int image_check(void) { return 1; }
int trace_find(void) { return 2; }
int main(int argc, char **argv)
{
	struct vmad_err err = {0};
	FILE *f;
	close_range(3, ~0u, 0);
	f = fopen(argv[argc - 1], "w+");
	if (!f || vmad_dump(fileno(f), 0, &err) <= 0 || lseek(fileno(f), 0, SEEK_SET) ||
	    vmad_check(fileno(f), &err) < 0)
		return puts(err.text), 1;
	puts(bproc_strerror(BE_NODEDOWN));
	return image_check() + trace_find() != 3;
}
X
for std in c99 gnu17; do
	printf '#include <vmadump.h>\nint main(void){return VMAD_TEXT_MAX;}\n' >t.c
	cc -std=$std $warn -I"$source/include" -fsyntax-only t.c
done
if command -v c++ >/dev/null; then
	c++ -x c++ -std=c++11 -Wall -Wextra -Werror -I"$source/include" -fsyntax-only t.c
fi
both() { PKG_CONFIG_PATH=$pc pkg-config --cflags --libs vmadump bproc; }
# shellcheck disable=SC2046
cc image.c -o image $(both)
run env LD_LIBRARY_PATH="$pc/.." ./image shared.image
# shellcheck disable=SC2046
cc -static image.c -o image_static $(both)
run ./image_static static.image

# A directory of its own for the libraries must not be put behind the prefix.
for f in bin/bpsh bin/bpstat bin/bpctl bin/vmadump include/bproc.h include/vmadump.h include/sys/bproc.h include/sys/bproc_common.h; do
	[ -s "moved/$f" ] || { echo "FAILED: $f is not installed"; exit 1; }
done

mkdir package
cat >package/CMakeLists.txt <<'X'
cmake_minimum_required(VERSION 3.25)
project(user C)
find_package(bproc 0.1 REQUIRED)
add_executable(shared ../user.c)
target_link_libraries(shared PRIVATE bproc::bproc)
add_executable(static ../user.c)
target_link_libraries(static PRIVATE bproc::bproc_static)
target_link_options(static PRIVATE -static)
add_executable(image ../image.c)
target_link_libraries(image PRIVATE bproc::bproc bproc::vmadump)
X
cmake -S package -B package/build -DCMAKE_PREFIX_PATH="$tmp/moved" >package.log || { cat package.log; exit 1; }
cmake --build package/build >package.log || { cat package.log; exit 1; }
run package/build/shared
run package/build/static
run package/build/image package.image
echo ok
