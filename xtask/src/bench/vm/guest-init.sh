#!/bin/busybox sh
# PID 1 of a guest that is measured, the same under every monitor: mounts the share by the agent, says
# so in it, sleeps until a line is typed, and measures vsock.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
while read -r module; do insmod "$module"; done < /etc/osxfs/modules
mkdir -p /s
mkfifo /run/said
osxfs-agent --connect vsock:host:1525 --mount s:/s > /run/said &
read -r line < /run/said
: > /s/ready
read -r line
vsock_peer ping vsock:4000 1 "$BENCH_PINGS" 64
vsock_peer send vsock:4000 1 "$BENCH_BYTES"
vsock_peer receive vsock:4000 1 "$BENCH_BYTES"
echo bench-guest: done
poweroff -f
