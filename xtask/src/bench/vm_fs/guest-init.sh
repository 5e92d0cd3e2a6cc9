#!/bin/busybox sh
# PID 1 of the guest in which file systems are measured: mounts all of them, measures what the host asks
# for, and powers off.
export PATH=/tools/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LD_LIBRARY_PATH=/tools/lib
export OSXFS_RUNTIME_DIR=/run/osxfs
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ip link set lo up
while read -r module; do insmod "$module"; done < /etc/osxfs/modules
mkdir -p /m/local /m/osxfs /m/auto /m/always /m/ninep
mount -t ext4 /dev/vda /m/local
mount -t virtiofs auto /m/auto
mount -t virtiofs always /m/always
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=512000 ninep /m/ninep
mkfifo /run/said
osxfs agent --connect vsock:host:1525 --mount shared:/m/osxfs > /run/said &
agent=$!
exec 3< /run/said
read -r line <&3
cat /proc/mounts
xtask bench vm-fs-inside --agent $agent $(cat /arguments) < /dev/null
echo "bench-guest: status $?"
poweroff -f
