package storage

import (
	"fmt"
	"testing"
)

func TestAppendOps(t *testing.T) {
	written := func(keys ...string) (c *commit) {
		c = &commit{}
		for i, k := range keys {
			c.writes = append(c.writes, write{key: k, value: fmt.Append(nil, len(keys), ".", i)})
		}
		return c
	}
	for _, c := range []struct {
		name  string
		batch []*commit
		want  string
	}{
		{"one commit stays as it is", []*commit{written("c", "a", "b")}, "c=3.0 a=3.1 b=3.2 "},
		{"several are put in order, and the last write of a key is the last", []*commit{written("c", "a"), written("b", "a", "d"), written("a")}, "a=2.1 a=3.1 a=1.0 b=3.0 c=2.0 d=3.2 "},
		{"a deleted prefix keeps its place", []*commit{written("c", "a"), {deleted: []string{"a"}}, written("a")}, "c=2.0 a=2.1 a= a=1.0 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			for _, op := range (&batch{commits: c.batch}).appendOps(nil) {
				got += fmt.Sprintf("%s=%s ", op.Key, op.Value)
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
