// Package storage gives transactions over a tiny key-value Backend.
package storage
