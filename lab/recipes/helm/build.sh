#!/bin/sh
# Build helm from Go modules into the folder $1. Run in this folder, whose content keys the cache.
set -eu
version=$(sed -n 's/^require helm.sh\/helm\/v4 //p' go.mod)
CGO_ENABLED=0 exec go build -mod=readonly -trimpath \
    -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=$version" -o "$1/helm" helm.sh/helm/v4/cmd/helm
