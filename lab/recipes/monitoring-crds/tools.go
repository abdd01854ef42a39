//go:build tools

// Package tools pins the resource types of prometheus-operator, and what makes CRDs from Go types.
package tools

import (
	_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	_ "sigs.k8s.io/controller-tools/cmd/controller-gen"
)
