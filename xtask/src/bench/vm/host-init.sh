#!/bin/busybox sh
# PID 1 of the emulated host: makes it a host with KVM, measures there, and powers off.
export PATH=/tools/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LD_LIBRARY_PATH=/tools/lib
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t debugfs debug /sys/kernel/debug
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
ip link set lo up
# What comes there only wakes this machine.
stty -echo < /dev/console
while read -r module; do insmod "$module"; done < /etc/osxfs/modules
xtask bench vm-inside $(cat /arguments) < /dev/null
echo "bench-host: status $?"
poweroff -f
