//go:build tools

// Package tools pins Helm, so that it builds from Go modules alone.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
