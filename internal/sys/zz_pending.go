package sys

import (
	"os"
	"strconv"

	"arca/internal/engine"
)

func (e *Engine) auditRoutes() []engine.Route   { return nil }

func hostname() string {
	h, _ := os.Hostname() // empty where it cannot be had
	return h
}

func parseUint(text string) (uint64, error) { return strconv.ParseUint(text, 10, 64) }
