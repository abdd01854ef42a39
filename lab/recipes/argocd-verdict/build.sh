#!/bin/sh
# Build the program of main.go into the folder $1, and put Argo CD's CRDs beside it. Run in this folder, whose content keys
# the cache. The `replace` lines of go.mod are those of Argo CD's own go.mod, which Go does not take from a dependency.
set -eu
out=$1
go build -mod=readonly -trimpath -ldflags '-s -w' -o "$out/argocd-verdict" .
mkdir "$out/crds"
cp "$(go list -m -f '{{.Dir}}' github.com/argoproj/argo-cd/v3)"/manifests/crds/*-crd.yaml "$out/crds/"
