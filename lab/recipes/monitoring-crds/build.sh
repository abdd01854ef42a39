#!/bin/sh
# Make the CustomResourceDefinitions of PodMonitor, PrometheusRule and their kin, from prometheus-operator's Go types, into
# the folder $1. Run in this folder, whose content keys the cache.
set -eu
program=$(mktemp -d)
trap 'rm -rf "$program"' EXIT
CGO_ENABLED=0 go build -mod=readonly -trimpath -o "$program/controller-gen" sigs.k8s.io/controller-tools/cmd/controller-gen
"$program/controller-gen" crd:crdVersions=v1 \
    paths=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1 "output:crd:dir=$1"
rm -f "$1"/monitoring.coreos.com_alertmanagers.yaml "$1"/monitoring.coreos.com_prometheuses.yaml \
    "$1"/monitoring.coreos.com_thanosrulers.yaml
