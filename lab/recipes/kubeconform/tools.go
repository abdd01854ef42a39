//go:build tools

// Package tools pins kubeconform, so that it builds from Go modules alone.
package tools

import _ "github.com/yannh/kubeconform/cmd/kubeconform"
