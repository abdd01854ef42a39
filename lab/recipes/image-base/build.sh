#!/bin/sh
# Make the system that images are built on where no registry of them can be reached: Debian trixie, into $1/rootfs.tar.
# Run as root, in this folder, whose content keys the cache.
set -eu
root=$1/rootfs
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
debootstrap --variant=minbase --components=main,contrib --include=ca-certificates trixie "$root"
chroot "$root" apt-get clean
rm -rf "$root/var/lib/apt/lists"/* "$root/usr/share/doc" "$root/usr/share/locale"
tar -c --numeric-owner --xattrs --exclude=./dev/* -C "$root" -f "$1/rootfs.tar" .
rm -rf "$root"
