#!/bin/bash
# Job control from a terminal of the lab: ^C and ^Z reach what runs on a node.
# 2 nodes, with -t.
. "$(dirname "$(readlink -f "$0")")/lib.sh"
tty -s || { echo 'no terminal'; exit 1; }

# A shell of its own on a terminal of its own, driven by script(1).
cat >"$t/driver.py" <<'END'
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.environ["PS1"] = "prompt> "
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
seen = b""
def expect(what, limit=8):
    global seen
    end = time.time() + limit
    while what not in seen:
        if time.time() > end or not select.select([fd], [], [], end - time.time())[0]:
            print("NOT OK - waited for", what, "saw", seen[-300:])
            sys.exit(1)
        seen += os.read(fd, 4096)
    seen = seen[seen.index(what) + len(what):]
    print("ok -", what)
def type(s):
    time.sleep(0.2) # what is typed before readline has the terminal may be flushed
    os.write(fd, s)
expect(b"prompt> ")
type(b"bpsh 0 sleep 302\n"); time.sleep(0.7)
type(b"\x03"); expect(b"prompt> ")
type(b"echo status $?\n"); expect(b"status 1"); expect(b"prompt> ")
type(b"bpsh 0 sleep 303\n"); time.sleep(0.7)
type(b"\x1a"); expect(b"Stopped"); expect(b"prompt> ")
type(b"bplab exec 0 ps -o stat= -p $(bplab exec 0 pgrep -nf '^sleep 303$')\n")
expect(b"T"); expect(b"prompt> ")
type(b"bg; jobs\n"); expect(b"Running"); expect(b"prompt> ")
type(b"fg\n"); time.sleep(0.5)
type(b"\x03"); expect(b"prompt> ")
type(b"bplab exec 0 pgrep -f '^sleep 303$' || echo none there\n"); expect(b"none there")
type(b"echo typed | bpsh 0 cat\n"); expect(b"\rtyped\r\n"); expect(b"prompt> ")
type(b"bpsh 1 cat\n"); time.sleep(0.7)
type(b"a line\n"); expect(b"a line"); expect(b"a line")
type(b"\x04"); expect(b"prompt> ")
# Typed ahead of a process that reads one line on a node, and the other at home.
type(os.environ["LAB_PROGRAMS"].encode() + b"/hop_dynamic 0 3 -1 3; echo it ended $?\n"); time.sleep(0.7)
type(b"l1\nl2\n")
for what in b"l1", b"l2", b"l1", b"l2", b"it ended 0", b"prompt> ": expect(what)
type(b"exit\n")
END
command -v python3 >/dev/null || { echo 'skipped: no python3 here'; exit 77; }
ok 'the terminal' python3 "$t/driver.py"
finish
