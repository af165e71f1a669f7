package chain

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"sort"
)

// maxLine bounds a line that is read, in bytes: data of 4 MiB, hashed and shown
// twice, stays below.
const maxLine = 64 << 20

// A Finding is something that a log says of itself. One that is no fault may be
// as it should: only who keeps the log can tell.
type Finding struct {
	File  string
	Line  int // from 1
	Fault bool
	Text  string
}

// String implements fmt.Stringer.
func (f Finding) String() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text) }

// maxChains bounds how many chains a log may be of: a new one begins only when the
// server has lost the end of the one before.
const maxChains = 1000

// maxFindings bounds how many findings are told one by one.
const maxFindings = 1000

// A Verifier checks the lines of a log, file by file in the order in which they
// were written. It keeps no lines, so that a log of any size can be read.
type Verifier struct {
	Lines    int // so many were read
	Faults   int // so many lines are not as they should be
	Findings []Finding
	Last     Record // of the last line that is in a chain

	sum  hash.Hash
	ends map[string]Record // of each chain
	want map[Head]bool     // see Expect
}

// NewVerifier returns a Verifier.
func NewVerifier() *Verifier {
	return &Verifier{sum: sha256.New(), ends: map[string]Record{}, want: map[Head]bool{}}
}

// Expect has the verifier look out for a line; Missing tells whether it has come.
func (v *Verifier) Expect(h Head) { v.want[h] = false }

// Missing reports whether a line that was expected has not come.
func (v *Verifier) Missing(h Head) bool { return !v.want[h] }

// Ends are the last records of the chains. All records without a fault are
// authentic if the macs of these are.
func (v *Verifier) Ends() []Record {
	out := slices.Collect(maps.Values(v.ends))
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID }) // slices.SortFunc would be 20 kB of code for a struct of this size
	return out
}

func (v *Verifier) note(file string, line int, fault bool, format string, args ...any) {
	if fault {
		v.Faults++
	}
	if len(v.Findings) < maxFindings {
		v.Findings = append(v.Findings, Finding{file, line, fault, fmt.Sprintf(format, args...)})
	}
}

// Read checks one file. The error is one of reading it.
func (v *Verifier) Read(file string, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	for n := 1; ; n++ {
		var err error
		line, err = readLine(in, line[:0])
		if len(line) > 0 {
			v.Lines++
			v.line(file, n, line, err == nil)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", file, n, err)
		}
	}
}

func readLine(in *bufio.Reader, line []byte) ([]byte, error) {
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > maxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
	}
}

func (v *Verifier) line(file string, n int, line []byte, whole bool) {
	r, body, ok := Parse(line)
	if !ok {
		if whole {
			v.note(file, n, true, "this line is in no chain: it was added or changed, or cut short when the server stopped or the disk was full")
		} else {
			v.note(file, n, true, "the last line is not whole")
		}
		return
	}
	before := v.Last
	v.Last = r
	if _, ok := v.want[r.Head]; ok {
		v.want[r.Head] = true
	}
	end, known := v.ends[r.ID]
	if !known && len(v.ends) >= maxChains {
		v.note(file, n, true, "this log is of more than %d chains", maxChains)
		return
	}
	if r.Seq > end.Seq {
		v.ends[r.ID] = r
	}
	from := Head{ID: r.ID, Seq: r.Seq - 1, Hash: r.Prev}
	if from.next(v.sum, body); from.Hash != r.Hash {
		v.note(file, n, true, "this line, or the one before it, is not what was written")
		return
	}
	switch {
	case before.ID == r.ID && before.Seq+1 == r.Seq:
		if before.Hash != r.Prev {
			v.note(file, n, true, "this line, or the one before it, is not what was written")
		}
	case before.ID == r.ID && before.Seq < r.Seq:
		v.note(file, n, true, "records %d to %d of the chain are missing in front of this line", before.Seq+1, r.Seq-1)
	case known:
		v.note(file, n, true, "record %d of chain %s stands where it does not belong: lines were moved, or come twice", r.Seq, r.ID)
	case r.Seq == 1:
		if before.Seq > 0 {
			v.note(file, n, false, "a new chain begins: the server had lost the end of the one before")
		}
		if begin(r.ID).Hash != r.Prev {
			v.note(file, n, true, "this line is not the first of its chain")
		}
	default:
		v.note(file, n, before.Seq > 0, "the chain begins with record %d: those before it are not in these files", r.Seq)
	}
}
