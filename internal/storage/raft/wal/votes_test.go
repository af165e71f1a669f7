package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"arca/internal/errs"
)

// TestVotes sets values through faults of the disk and crashes: what was acknowledged is there, or what was set after it.
func TestVotes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		disk, rate := vfs.NewCrashableMem(), 0
		open := func() *Votes {
			v, err := OpenVotes(faulty{disk, rng, &rate}, "", seed%2 == 0)
			if err != nil && rate > 0 {
				rate = 0
				v, err = OpenVotes(faulty{disk, rng, &rate}, "", true)
			}
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if _, err := OpenVotes(disk, "", false); !errs.Is(err, errs.Invalid) {
			t.Fatalf("a vote that is not there: %v", err)
		}
		if _, err := OpenVotes(disk, "", true); err != nil {
			t.Fatal(err)
		}
		v := open()
		want, tried := map[string][]byte{}, map[string][][]byte{}
		for i := range 100 {
			switch rng.IntN(10) {
			case 0:
				disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
				v = open()
			case 1:
				v = open()
			case 2:
				rate = []int{0, 300}[rng.IntN(2)]
			default:
				key, value := fmt.Sprint("key", rng.IntN(3)), fmt.Append(nil, i)
				if err := v.Set([]byte(key), value); err != nil {
					tried[key] = append(tried[key], value)
				} else {
					want[key], tried = value, map[string][][]byte{}
				}
			}
			for key := range want {
				got, err := v.Get([]byte(key))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want[key]) {
					known := false
					for _, some := range tried[key] {
						known = known || bytes.Equal(got, some)
					}
					if !known {
						t.Fatalf("seed %d: %s is %q, and not %q", seed, key, got, want[key])
					}
					want[key] = got // from now on
				}
			}
		}
	}
}

// TestVotesDamaged opens votes of which one place is damaged, and both.
func TestVotesDamaged(t *testing.T) {
	t.Parallel()
	fs, cfg, _ := sample(t)
	path := fs.PathJoin(cfg.Dir, votesName)
	good := content(t, fs, path)
	bad := bytes.Clone(good)
	bad[20] ^= 1
	bad[placeBytes+20] ^= 1
	put(t, fs, path, bad)
	if _, err := OpenVotes(fs, cfg.Dir, true); !errs.Is(err, errs.Invalid) {
		t.Errorf("both places: %v", err)
	}
	put(t, fs, path, good[:placeBytes])
	v, err := OpenVotes(fs, cfg.Dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if term, err := v.GetUint64([]byte("CurrentTerm")); err != nil || term != 2 {
		t.Errorf("the term is %d, %v", term, err)
	}
	if err := errors.Join(v.Close(), v.Close()); err != nil {
		t.Fatal(err)
	}
	if err := v.Set([]byte("k"), nil); err == nil {
		t.Error("a value is set in votes that are closed")
	}
}

// TestVoteAtOnce has a write fail: of a vote there is never the term alone.
func TestVoteAtOnce(t *testing.T) {
	t.Parallel()
	disk, rate, rng := vfs.NewMem(), 0, rand.New(rand.NewPCG(1, 3))
	v, err := OpenVotes(faulty{disk, rng, &rate}, "", true)
	if err != nil {
		t.Fatal(err)
	}
	for term := range uint64(100) {
		rate = []int{0, 500}[term%2]
		_ = v.SetUint64([]byte(voteTerm), term)                            // it says so below
		_ = v.Set([]byte(voteCandidate), fmt.Appendf(nil, "node%d", term)) // likewise
		for _, get := range []func() (*Votes, error){func() (*Votes, error) { return v, nil }, func() (*Votes, error) { return OpenVotes(disk, "", false) }} {
			w, err := get()
			if err != nil {
				t.Fatal(err)
			}
			noted, err := w.GetUint64([]byte(voteTerm))
			to, err2 := w.Get([]byte(voteCandidate))
			if err := errors.Join(err, err2); err != nil || string(to) != fmt.Sprint("node", noted) {
				t.Fatalf("in term %d the vote is of term %d, for %s, %v", term, noted, to, err)
			}
			if rate == 0 && noted != term {
				t.Fatalf("the vote of term %d is not noted", term)
			}
		}
	}
}

func TestVotesFull(t *testing.T) {
	t.Parallel()
	v, err := OpenVotes(vfs.NewMem(), "", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Set([]byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := v.Set([]byte("long"), make([]byte, placeBytes)); !errs.Is(err, errs.TooLarge) {
		t.Errorf("too long a value: %v", err)
	}
	if got, err := v.Get([]byte("k")); err != nil || string(got) != "v" {
		t.Errorf("k is %q, %v", got, err)
	}
}

// TestTermBack notes two terms, the older one last, as raft may do: the later one counts.
func TestTermBack(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	v, err := OpenVotes(fs, "", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, term := range []uint64{3, 300, 300} {
		if err := v.SetUint64([]byte(currentTerm), term); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.SetUint64([]byte(currentTerm), 4); !errs.Is(err, errs.Conflict) {
		t.Errorf("back to term 4: %v", err)
	}
	vote := func(term uint64, candidate string) error {
		if err := v.SetUint64([]byte(voteTerm), term); err != nil {
			t.Fatal(err)
		}
		return v.Set([]byte(voteCandidate), []byte(candidate))
	}
	for _, c := range []struct {
		term      uint64
		candidate string
		may       bool
	}{{299, "a", false}, {300, "a", true}, {300, "a", true}, {300, "b", false}, {301, "b", true}, {300, "a", false}} {
		if err := vote(c.term, c.candidate); c.may && err != nil || !c.may && !errs.Is(err, errs.Conflict) {
			t.Errorf("a vote for %s in term %d: %v", c.candidate, c.term, err)
		}
	}
	if v.term != nil {
		t.Error("a term waits for a vote that was refused")
	}
	if v, err = OpenVotes(fs, "", false); err != nil {
		t.Fatal(err)
	}
	if term, err := v.GetUint64([]byte(currentTerm)); err != nil || term != 300 {
		t.Errorf("the term is %d, %v", term, err)
	}
}
