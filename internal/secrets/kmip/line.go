package kmip

import (
	"errors"
	"slices"
	"strings"

	"arca/internal/errs"
	"arca/internal/storage"
)

// A line is the certificates that came of one by renewal. A client renews its certificate by
// itself, and so does who has stolen it: whoever revokes a certificate revokes what came of
// it, too. Each renewed one is in the index under the first one of its line, with the one that
// it renews as the value.

const maxLine = 10_000 // certificates of a line that are there at a time

func lineDir(scope, role, line string) string { return "line/" + scope + "/" + role + "/" + line + "/" }

// renews notes which certificate is renewed; "" is none.
func (c *credential) renews(tx storage.Tx, scope, role, serial, from string) error {
	if from == "" {
		return nil
	}
	parent, err := get[credential](tx, credDir(scope, role)+from)
	if err != nil {
		return err
	}
	c.From, c.Line = from, parent.Line
	if c.Line == "" {
		c.Line = from
	}
	n := 0
	for _, err := range tx.Scan(lineDir(scope, role, c.Line), "") {
		if err != nil {
			return err
		}
		if n++; n >= maxLine {
			return errs.New(errs.Invalid, "this certificate, and those that came of it, were renewed %d times in a short time: generate one", maxLine)
		}
	}
	parent.Renewed = true
	if err := storage.PutJSON(tx, credDir(scope, role)+from, parent); err != nil {
		return err
	}
	return tx.Put(lineDir(scope, role, c.Line)+serial, []byte(from))
}

// forgetCredential takes a certificate out of the store.
func forgetCredential(tx storage.Tx, scope, role, serial string) error {
	c, err := get[credential](tx, credDir(scope, role)+serial)
	if errors.Is(err, errNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.Line != "" {
		if err := tx.Delete(lineDir(scope, role, c.Line) + serial); err != nil {
			return err
		}
	}
	return tx.Delete(credDir(scope, role) + serial)
}

// lineOf finds the line of a certificate that is forgotten, by one that came of it; "" is none.
func lineOf(tx storage.Tx, scope, role, serial string) (string, error) {
	dir := lineDir(scope, role, "")
	dir = strings.TrimSuffix(dir, "/")
	for kv, err := range tx.Scan(dir, "") {
		if err != nil {
			return "", err
		}
		if string(kv.Value) == serial {
			line, _, _ := strings.Cut(strings.TrimPrefix(kv.Key, dir), "/")
			return line, nil
		}
	}
	return "", nil
}

// revokeLine revokes a certificate and all that came of it, and tells which those were.
// line is the first one of its line, "" where it is that itself. What came of one that is
// forgotten by now may have come of this one: it is revoked, too, unless this one itself came of
// that.
func revokeLine(tx storage.Tx, scope, role, serial, line string) (also []string, err error) {
	if line == "" {
		line = serial
	}
	parents, came := map[string]string{}, map[string][]string{} // what came of each
	for kv, err := range tx.Scan(lineDir(scope, role, line), "") {
		if err != nil {
			return nil, err
		}
		s := kv.Key[strings.LastIndexByte(kv.Key, '/')+1:]
		parents[s] = string(kv.Value)
		came[parents[s]] = append(came[parents[s]], s)
	}
	above := map[string]bool{line: true} // what it came of, as far as that is known
	for s := parents[serial]; s != "" && !above[s]; s = parents[s] {
		above[s] = true
	}
	gone := map[string]bool{}
	todo := came[serial]
	for parent, list := range came {
		if parents[parent] == "" && !above[parent] && parent != serial {
			todo = append(todo, list...)
		}
	}
	for len(todo) > 0 {
		s := todo[0]
		todo = todo[1:]
		if gone[s] || s == serial {
			continue
		}
		if err := forgetCredential(tx, scope, role, s); err != nil {
			return nil, err
		}
		gone[s] = true
		also = append(also, s)
		todo = append(todo, came[s]...)
	}
	slices.Sort(also)
	return also, forgetCredential(tx, scope, role, serial)
}
