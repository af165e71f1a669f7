package audit

import "bytes"

// A sink is where a device's lines go. One goroutine uses it, but for
// interrupt.
type sink interface {
	// open makes it ready; it is called again after a failure.
	open() error
	// write takes lines, which end with a newline, and returns how many of them
	// it has taken whole. An error is about the line behind these. After one,
	// the sink is not open any more if broken is true.
	write(lines [][]byte) (n int, broken bool, err error)
	// reload lets go of what may have been moved away (log rotation).
	reload() error
	// interrupt ends a call of write that hangs, as far as that can be done, and
	// makes later ones fail. Any goroutine may call it.
	interrupt()
	// close lets go of everything.
	close() error
}

// whole counts how many of lines lie within the first n bytes.
func whole(lines [][]byte, n int) int {
	for i := range lines {
		if n < len(lines[i]) {
			return i
		}
		n -= len(lines[i])
	}
	return len(lines)
}

// join appends the lines to buf.
func join(buf []byte, lines [][]byte) []byte {
	for _, l := range lines {
		buf = append(buf, l...)
	}
	return buf
}

// trimmed is a line without its end.
func trimmed(l []byte) []byte { return bytes.TrimSuffix(l, []byte{'\n'}) }
