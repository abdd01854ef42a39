#!/bin/sh
# Build the storage node's disk from its base system: settings, keys, the Python environment of the operator.
#   build.sh BASE WHEELS OUT
# BASE is the folder that ../node-base made; WHEELS has wheels of every Python package, and requirements.txt naming
# those wanted. OUT gets root.img, vmlinuz, initrd, the ssh keys, and rootfs/ for work in a chroot. Run as root, in
# this folder, whose content keys the cache. Takes about a minute and 6 GB of disk (most of root.img is a hole).
set -eu
umask 022
base=$1
wheels=$2
out=$3
root=$out/rootfs
export LC_ALL=C

echo "copy of the base system"
cp -a --reflink=auto "$base/rootfs" "$root"
cleanup() {
    umount "$root/proc" 2>/dev/null || true
}
trap cleanup EXIT
mount -t proc proc "$root/proc"
kernel=$(ls "$root/lib/modules" | tail -n 1)

echo "settings"
install -m 755 node-init "$root/node-init"
install -m 755 lab-wake lab-daemon "$root/usr/local/sbin/"
# Unpacking a module takes an emulated processor longer than reading it.
chroot "$root" python3 - <<'PYTHON'
import lzma
from pathlib import Path

for packed in Path("/lib/modules").rglob("*.ko.xz"):
    packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
    packed.unlink()
PYTHON
chroot "$root" depmod "$kernel"
# Only what a virtio guest needs, so that an emulated boot reads little.
printf 'virtio_pci\nvirtio_blk\nvirtio_net\next4\n' > "$root/etc/initramfs-tools/modules"
sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=lz4/; /^COMPRESSLEVEL/d' \
    "$root/etc/initramfs-tools/initramfs.conf"
rm -f "$root/boot"/initrd.img*
chroot "$root" update-initramfs -c -k "$kernel"
# The guest is small; OpenZFS would take half of its memory for its cache.
echo 'options zfs zfs_arc_max=268435456' > "$root/etc/modprobe.d/lab.conf"
# dash starts faster than bash, and every command over ssh starts a shell.
chroot "$root" usermod --shell /bin/sh root
echo node > "$root/etc/hostname"
printf '127.0.0.1 localhost node\n10.0.2.2 host\n' > "$root/etc/hosts"
rm -f "$root/etc/resolv.conf" "$root/etc/hostid"
: > "$root/etc/machine-id"

echo "ssh"
mkdir -p "$out/ssh"
chmod 700 "$out/ssh" "$out"
ssh-keygen -q -t ed25519 -N '' -C 'dsg lab' -f "$out/ssh/id_ed25519"
rm -f "$root/etc/ssh"/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -C 'dsg lab node' -f "$root/etc/ssh/ssh_host_ed25519_key"
printf 'dsg-lab-node %s\n' "$(cat "$root/etc/ssh/ssh_host_ed25519_key.pub")" > "$out/ssh/known_hosts"
install -d -m 700 "$root/root/.ssh"
install -m 600 "$out/ssh/id_ed25519.pub" "$root/root/.ssh/authorized_keys"
cp sshd.conf "$root/etc/ssh/sshd_config.d/lab.conf"

echo "Python packages"
mkdir "$root/wheels"
cp "$wheels"/* "$root/wheels/"
chroot "$root" python3 -m venv /opt/dsg
# A package index named in the environment of this machine means nothing in there.
env -u PIP_FIND_LINKS -u PIP_CERT -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL PIP_DISABLE_PIP_VERSION_CHECK=1 \
    chroot "$root" /opt/dsg/bin/python -m pip install --quiet --no-index --find-links /wheels \
    --requirement /wheels/requirements.txt --root-user-action ignore
chroot "$root" /opt/dsg/bin/python -m compileall -q /usr/lib/python3.13 /opt/dsg/lib
chroot "$root" /opt/dsg/bin/python -m pip list --format freeze > "$out/python-packages.txt"
rm -rf "$root/wheels"

cp "$root/boot/vmlinuz-$kernel" "$out/vmlinuz"
cp "$root/boot/initrd.img-$kernel" "$out/initrd"
cp "$base/versions.txt" "$out/versions.txt"
cleanup
trap - EXIT

echo "disk"
# Raw, with a hole wherever it is empty: the nodes' own disks are layers above it.
mke2fs -q -t ext4 -L root -d "$root" "$out/root.img" 6G
