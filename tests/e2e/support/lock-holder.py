"""Takes a lock, says how it went, and keeps it until the process is ended.

lock-holder.py posix|ofd|flock PATH shared|exclusive [wait] [START+LENGTH]
"""
import errno
import fcntl
import os
import signal
import struct
import sys

kind, path, how, *rest = sys.argv[1:]
wait = "wait" in rest
start, length = next((map(int, word.split("+")) for word in rest if "+" in word), (0, 0))
shared = how == "shared"
file = os.open(path, os.O_RDONLY if shared else os.O_RDWR)

try:
    if kind == "flock":
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, operation | (0 if wait else fcntl.LOCK_NB))
    else:
        # struct flock: l_type, l_whence, l_start, l_len, l_pid
        lock_type = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        lock = struct.pack("hhqqi4x", lock_type, os.SEEK_SET, start, length, 0)
        commands = {
            ("posix", False): fcntl.F_SETLK,
            ("posix", True): fcntl.F_SETLKW,
            ("ofd", False): 37,  # F_OFD_SETLK
            ("ofd", True): 38,  # F_OFD_SETLKW
        }
        fcntl.fcntl(file, commands[kind, wait], lock)
    print("lock: taken", flush=True)
except OSError as error:
    print("lock:", errno.errorcode[error.errno].replace("EACCES", "EAGAIN"), flush=True)
    sys.exit(1)
signal.pause()
