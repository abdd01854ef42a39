#!/bin/sh
# Build the storage node's system into the folder $1/rootfs: Debian trixie with OpenZFS built by DKMS for its own
# kernel, all in a chroot. Run as root, in this folder, whose content keys the cache. Takes about 15 CPU minutes, most of
# them for the module, and 3 GB of disk. What changes often (settings, Python packages) is in ../node.
set -eu
out=$1
root=$out/rootfs
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
packages=$(sed '/^#/d' packages.txt)

echo "debootstrap (2 minutes)"
debootstrap --variant=minbase --components=main,contrib trixie "$root"
cleanup() {
    umount "$root/proc" 2>/dev/null || true
}
trap cleanup EXIT
mount -t proc proc "$root/proc"
# No service may start inside the chroot.
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
if [ -d /etc/apt/apt.conf.d ]; then
    for f in /etc/apt/apt.conf.d/*; do
        # The machine's own proxy or date settings, where it has them; nothing that runs a hook.
        if grep -qE '^Acquire::' "$f"; then cp "$f" "$root/etc/apt/apt.conf.d/"; fi
    done
fi
echo "packages and the OpenZFS module (8 to 15 minutes)"
chroot "$root" apt-get update -q
# shellcheck disable=SC2086  # a list on purpose
chroot "$root" apt-get install -q -y --no-install-recommends $packages
kernel=$(ls "$root/lib/modules" | tail -n 1)
if ! ls "$root/lib/modules/$kernel/updates/dkms/"zfs.ko* >/dev/null 2>&1; then
    chroot "$root" dkms autoinstall -k "$kernel"
fi
ls "$root/lib/modules/$kernel/updates/dkms/"zfs.ko*
chroot "$root" dpkg-query -W zfsutils-linux zfs-dkms python3 "linux-image-$kernel" > "$out/versions.txt"

# The compiler has done its work; removing its packages would take the module with them, so the module steps aside.
mv "$root/lib/modules/$kernel/updates" "$out/updates"
chroot "$root" apt-get purge -q -y --auto-remove zfs-dkms dkms linux-headers-cloud-amd64
rm -rf "$root/lib/modules/$kernel/updates"
mv "$out/updates" "$root/lib/modules/$kernel/updates"
chroot "$root" depmod "$kernel"
chroot "$root" apt-get clean
rm -rf "$root/var/lib/apt/lists"/* "$root/usr/share/doc" "$root/usr/share/locale" "$root/usr/sbin/policy-rc.d"
cleanup
trap - EXIT
