#!/bin/busybox sh
# PID 1 of a guest with a system of its own: unpacks Debian into memory from the archive that is its
# disk, adds what the test brings, and makes way for that system's init.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
    insmod "$(find /lib/modules -name $module.ko)"
done
mkdir /system
mount -t tmpfs -o mode=755 system /system
tar -x -f /dev/vda -C /system
cp -a /lib/modules /system/lib/
cp -a /added/. /system/
mkdir -p /system/usr/local/bin
cp /init /system/usr/local/bin/osxfs-agent
ln -s bash /system/bin/sh
for of in passwd group; do cp /system/usr/share/base-passwd/$of.master /system/etc/$of; done
mkdir -p /system/proc /system/sys /system/dev /system/run /system/tmp
chroot /system depmod
chroot /system /bin/sh -eux /enable || poweroff -f
for of in proc sys dev; do mount --move /$of /system/$of; done
exec switch_root -c /dev/console /system $(cat /added/init)
