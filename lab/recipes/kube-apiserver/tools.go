//go:build tools

// Package tools pins kube-apiserver, so that it builds from Go modules alone.
package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
