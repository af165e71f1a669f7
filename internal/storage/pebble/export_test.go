package pebble

import "time"

// WithPatience has a store be patient with background work that fails for so long.
func (c Config) WithPatience(d time.Duration) Config {
	c.patience = d
	return c
}
