#!/bin/sh
# Build kubeconform from Go modules into the folder $1. Run in this folder, whose content keys the cache.
set -eu
version=$(sed -n 's/^require github.com\/yannh\/kubeconform //p' go.mod)
CGO_ENABLED=0 exec go build -mod=readonly -trimpath \
    -ldflags "-s -w -X main.version=$version" -o "$1/kubeconform" github.com/yannh/kubeconform/cmd/kubeconform
