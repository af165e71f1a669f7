package source

import "strings"

// Nearest returns the name most like a misspelt one, or "" if none is near.
func Nearest(key string, names []string) string {
	best, bestDistance := "", 3
	if len(key) <= 4 {
		bestDistance = 2
	}
	plain := plainName(key)
	for _, n := range names {
		if plainName(n) == plain {
			return n
		}
		if d := distance(key, n, bestDistance); d < bestDistance {
			best, bestDistance = n, d
		}
	}
	return best
}

// plainName lets tls-disable and tlsDisable be near tls_disable.
func plainName(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
}

// distance is the number of letters to insert, drop, change or swap to make a
// into b (optimal string alignment), or at least limit if it is no less.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
