"""Stops one thread of a process until killed: hold.py PID THREAD_NAME. As a debugger does, for the thread alone."""

import ctypes
import os
import signal
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207

pid, name = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
for thread in os.listdir(f"/proc/{pid}/task"):
    with open(f"/proc/{pid}/task/{thread}/comm", encoding="utf-8") as comm:
        if comm.read().strip() != name:
            continue
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, int(thread), None, None) != 0:
            sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")
    print("held", flush=True)
    signal.pause()
sys.exit(f"no thread {name}")
