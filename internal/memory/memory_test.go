package memory

import "testing"

func TestPercent(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		name        string
		live, floor uint64
		want        int
	}{
		{"small heap grows to the floor", 8 * mb, 48 * mb, 500},
		{"heap below Go's least counts as that", mb, 48 * mb, 1100},
		{"heap at half the floor is Go's business", 24 * mb, 48 * mb, 100},
		{"large heap is Go's business", 400 * mb, 48 * mb, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := percent(c.live, c.floor); got != c.want {
				t.Errorf("percent(%d, %d) = %d, want %d", c.live, c.floor, got, c.want)
			}
		})
	}
}
