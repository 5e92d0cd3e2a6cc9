#!/bin/busybox sh
# PID 1 of the host of a test: makes it a host with KVM and a disk, runs the one test, says how it
# ended, and powers off.
export PATH=/tools/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/bin/busybox mkdir -p /var/tmp /dev/pts
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
ip link set lo up
# What comes there only wakes this machine.
stty -echo < /dev/console
while read -r module; do insmod "$module"; done < /etc/osxfs/modules
mount -t ext4 /dev/vda /var/tmp
export LD_LIBRARY_PATH=/tools/lib OSXFS_BIN=/tools/bin/osxfs OSXFS_IMAGE=/image OSXFS_TOOLS=/tools
export OSXFS_TEST_DIR=/var/tmp OSXFS_E2E_HOST=1 RUST_BACKTRACE=1
read -r test < /test
e2e --exact "$test" --include-ignored --nocapture --test-threads 1 < /dev/null
echo "osxfs-lab: status $?"
sync
poweroff -f
