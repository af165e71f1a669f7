package audit

// A draft is a record as one device has it, for the next, whose salt is another: the
// same line but for the hashes. Writing a line anew is most of what a second device
// costs. A nil draft is none.
type draft struct {
	style style // of the device that left it
	line  []byte
	holes []hole // in the order of their places
}

// A hole is where a hash stands in a line, and of what: of text or of bytes.
type hole struct {
	at    int
	text  string
	bytes []byte
}

// fits reports whether a device has the same line but for its hashes.
func (d *draft) fits(e *encoder) bool {
	return d != nil && len(d.line) > 0 && d.style.raw == e.raw && d.style.accessor == e.accessor && d.style.elide == e.elide
}

// keep takes the line that a device has made.
func (d *draft) keep(e *encoder, line []byte) {
	if d != nil {
		d.style, d.line = e.style, append(d.line[:0], line...)
	}
}

// fill appends the line with another device's hashes.
func (d *draft) fill(dst []byte, m *mac) []byte {
	from := len(dst)
	dst = append(dst, d.line...)
	for i := range d.holes {
		h := &d.holes[i]
		value := h.bytes
		if h.text != "" {
			m.in = append(m.in[:0], h.text...)
			value = m.in
		}
		m.appendSum(dst[:from+h.at], value) // as long as the one that stands there
	}
	return dst
}

// again notes the holes of a part that is repeated at another place.
func (d *draft) again(s span, at int) {
	if d == nil {
		return
	}
	for _, h := range d.holes {
		if h.at >= s.from && h.at < s.to {
			h.at += at - s.from
			d.holes = append(d.holes, h)
		}
	}
}

// forget drops the holes from a place on, as the line ends there again.
func (d *draft) forget(at int) {
	if d == nil {
		return
	}
	for i, h := range d.holes {
		if h.at >= at {
			clear(d.holes[i:])
			d.holes = d.holes[:i]
			return
		}
	}
}

// reset forgets a record, of which the draft holds secrets.
func (d *draft) reset() {
	clear(d.holes)
	d.holes = d.holes[:0]
	if cap(d.line) > maxKeptBytes {
		d.line = nil
	}
	d.line = d.line[:0]
}
