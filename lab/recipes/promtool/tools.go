//go:build tools

// Package tools pins promtool, so that it builds from Go modules alone.
package tools

import _ "github.com/prometheus/prometheus/cmd/promtool"
