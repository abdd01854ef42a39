#!/bin/sh
# Put Debian trixie's QEMU with all its libraries into the folder $1/root, for machines whose own QEMU is older.
# Run as root, in this folder, whose content keys the cache. Nothing of it is installed in this machine.
set -eu
root=$1/root
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
debootstrap --variant=minbase --components=main --include=qemu-system-x86 trixie "$root"
chroot "$root" apt-get clean
rm -rf "$root/var/lib/apt/lists"/* "$root/usr/share/doc" "$root/usr/share/locale" "$root/usr/share/man"
