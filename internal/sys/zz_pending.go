package sys

import (
	"os"
	"strconv"
)

func hostname() string {
	h, _ := os.Hostname() // empty where it cannot be had
	return h
}

func parseUint(text string) (uint64, error) { return strconv.ParseUint(text, 10, 64) }
