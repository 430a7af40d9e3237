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
seen = log = b""
def fail():
    print("NOT OK - the terminal showed", log[-3000:].decode(errors="replace"))
    os.system("ps -eo pid,ppid,pgid,tpgid,stat,args; bpps")
    sys.exit(1)
def expect(what, limit=20):
    global seen, log
    end = time.time() + limit
    while what not in seen:
        if time.time() > end or not select.select([fd], [], [], end - time.time())[0]:
            print("NOT OK - waited for", what)
            fail()
        new = os.read(fd, 4096)
        seen += new
        log += new
    seen = seen[seen.index(what) + len(what):]
    print("ok -", what)
def type(s):
    time.sleep(0.1) # what is typed before readline has the terminal may be flushed
    os.write(fd, s)
def prompt(): expect(b"prompt> ")
def waits(what, states, n=1, limit=20):
    """until n processes of these arguments are in such a state: "S+" sleeps, in front"""
    end = time.time() + limit
    while time.time() < end:
        ps = os.popen("ps -eo stat=,args=").read().split("\n")
        if sum(l.split(None, 1)[1:] == [what] and l.split()[0].replace("t", "T") in states
               for l in ps) == n:
            return print("ok -", what, states)
        time.sleep(0.05)
    print("NOT OK -", what, "is not", states)
    expect(b"(nothing)", 1)
prompt()
type(b"bpsh 0 sleep 302\n"); waits("sleep 302", ["S+"])
type(b"\x03"); prompt()
type(b"echo status $?\n"); expect(b"status 1"); prompt()
type(b"bpsh 0 sleep 303\n"); waits("sleep 303", ["S+"])
type(b"\x1a"); expect(b"Stopped"); prompt()
type(b"bplab exec 0 ps -o stat= -p $(bplab exec 0 pgrep -nf '^sleep 303$')\n")
expect(b"T"); prompt()
type(b"bg; jobs\n"); expect(b"Running"); prompt()
type(b"fg\n"); waits("sleep 303", ["S+"])
type(b"\x03"); prompt()
type(b"bplab exec 0 pgrep -f '^sleep 303$' || echo none ther''e\n"); expect(b"none there"); prompt()
# The tools of jobs and processes, on one that runs in the background.
type(b"bpsh 0 sleep 304 &\n"); prompt(); waits("sleep 304", ["S"])
type(b"jobs -r\n"); expect(b"Running"); prompt()
type(b"ps -o tty=,args= -t $(tty)\n"); expect(b"pts/"); expect(b" sleep 304"); prompt()
type(b"kill -STOP %1\n"); waits("sleep 304", ["T"])
type(b"jobs\n"); expect(b"Stopped"); prompt()
type(b"kill -CONT %1\n"); waits("sleep 304", ["S"])
type(b"jobs\n"); expect(b"Running"); prompt()
type(b"top -p $(pgrep -nf '^sleep 304$')\n"); expect(b"load average"); expect(b"sleep")
type(b"q"); prompt()
type(b"pkill -f '^sleep 304$'; wait\n"); expect(b"Terminated"); prompt()
# Two jobs, of which one is a pipeline and one is on two nodes; from one to the other.
type(b"bpsh 0 sleep 305 | cat\n"); waits("sleep 305", ["S+"])
type(b"\x1a"); expect(b"Stopped"); prompt()
type(b"bpsh 0,1 sleep 306\n"); waits("sleep 306", ["S+"], 2)
type(b"\x1a"); expect(b"Stopped"); prompt()
type(b"fg %1\n"); expect(b"sleep 305 | cat"); waits("sleep 305", ["S+"])
type(b"\x03"); prompt()
type(b"bg\n"); prompt(); waits("sleep 306", ["S"], 2)
type(b"bpps -H -o node,args | xargs\n"); expect(b"0 sleep 306 1 sleep 306"); prompt()
type(b"jobs\n"); expect(b"Running"); prompt()
type(b"fg\n"); expect(b"sleep 306"); waits("sleep 306", ["S+"], 2)
type(b"\x1c"); expect(b"Quit"); prompt()
type(b"jobs; bpps -H; echo nothing left\n"); expect(b"\rnothing left"); prompt()
type(b"echo typed | bpsh 0 cat\n"); expect(b"\rtyped\r\n"); prompt()
type(b"bpsh 1 cat\n"); waits("cat", ["S+"])
type(b"a line\n"); expect(b"a line"); expect(b"a line")
type(b"\x04"); prompt()
# The terminal opened once more, as bash does it: on a node it is the forwarded one.
type(b"bash -c 'exec 200<>/dev/tty 201>&200; read x; echo got $x >&200; read y; echo and $y >&201'\n")
waits("bash -c exec 200<>/dev/tty 201>&200; read x; echo got $x >&200; read y; echo and $y >&201", ["S+"])
if os.system("bpmove $(pgrep -nf '^bash -c exec 200') 0") != 0: fail()
type(b"one\n"); expect(b"got one")
if os.system("bpmove $(pgrep -nf '^bash -c exec 200') -1") != 0: fail()
type(b"two\n"); expect(b"and two"); prompt()
# What a loop over a file has put aside is read behind it, wherever that is.
here = os.path.dirname(os.path.abspath(__file__))
open(here + "/three", "w").write("1\n2\n3\n")
loop = ("cd " + here + "; while read l; do until [ -e go$l ]; do sleep 0.05; done; echo l $l; done <three; "
        "read x; echo got $x; rm go?; exit")
type(b"bash -c '" + loop.encode() + b"'\n"); waits("bash -c " + loop, ["S+"])
if os.system("bpmove $(pgrep -nf '^bash -c cd') 0") != 0: fail()
open(here + "/go1", "w"); expect(b"l 1")
if os.system("bpmove $(pgrep -nf '^bash -c cd') 1") != 0: fail()
for n in "23": open(here + "/go" + n, "w")
expect(b"l 3"); type(b"a word\n"); expect(b"got a word"); prompt()
type(b"bash -c '" + loop.encode() + b"'\n"); waits("bash -c " + loop, ["S+"])
for to in "0", "-1":
    if os.system("bpmove $(pgrep -nf '^bash -c cd') " + to) != 0: fail()
for n in "123": open(here + "/go" + n, "w")
expect(b"l 3"); type(b"another\n"); expect(b"got another"); prompt()
# But not where it may be either.
type(b"bash -c 'while read l; do until [ -e " + here.encode() + b"/go ]; do sleep 0.05; done; done <" +
     here.encode() + b"/three >" + here.encode() + b"/out; echo ju''st so'\n")
waits_for = "pgrep -nf '^bash -c while'"
while not os.popen(waits_for).read(): time.sleep(0.05)
time.sleep(0.2)
said = os.popen("bpmove $(" + waits_for + ") 0 2>&1").read()
if "is its terminal, kept for input or for output" not in said: print("NOT OK -", said); fail()
open(here + "/go", "w"); expect(b"just so"); prompt()
# Typed ahead of a process that reads one line on a node, and the other at home.
hop = os.environ["LAB_PROGRAMS"] + "/hop_dynamic 0 3 -1 3"
type(hop.encode() + b"; echo it ended $?\n"); waits(hop, ["S+"])
type(b"l1\nl2\n")
for what in b"l1", b"l2", b"l1", b"l2", b"it ended 0", b"prompt> ": expect(what)
type(b"exit\n")
END
command -v python3 >/dev/null || { echo 'skipped: no python3 here'; exit 77; }
ok 'the terminal' python3 "$t/driver.py"
finish
