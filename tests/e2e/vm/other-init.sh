#!/bin/busybox sh
# PID 1 of a guest of another monitor: mounts what our vsock device offers, runs a script, says how it
# ended, and powers off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ip link set lo up
while read -r module; do insmod "$module"; done < /etc/osxfs/modules
for module in virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci; do
    insmod "$(find /lib/modules -name $module.ko)"
done
mkdir /shared /out
mkfifo /run/said
osxfs-agent --connect vsock:host:1525 --allow-other --mount shared:/shared --mount out:/out \
    > /run/said &
agent=$!
# A line for each mount.
{ read -r line; read -r line; } < /run/said
sh -eu /script > /out/said
status=$?
cat /out/said > /dev/null
kill $agent
wait $agent
echo "osxfs-guest: status $status"
poweroff -f
