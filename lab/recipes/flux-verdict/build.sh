#!/bin/sh
# Build the program of main.go into the folder $1, and put Flux's CRDs beside it. Run in this folder, whose content keys the
# cache. The CRDs lie in the controllers' own modules, which nothing here imports.
set -eu
out=$1
go build -mod=readonly -trimpath -ldflags '-s -w' -o "$out/flux-verdict" .
mkdir "$out/crds"
for module in kustomize-controller@v1.9.6 helm-controller@v1.6.4 source-controller@v1.9.6; do
    folder=$(go mod download -json "github.com/fluxcd/$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    cp "$folder"/config/crd/bases/*.yaml "$out/crds/"
done
chmod -R u+w "$out/crds"
