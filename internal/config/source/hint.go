package source

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	oneBare  = regexp.MustCompile(`([A-Za-z_][\w-]*)\s*=\s*([^"\s\[\]{},=][^"\s\[\]{},]*)("?)`)
	blankKey = regexp.MustCompile(`([A-Za-z_]\w*)\s+(_?[A-Za-z]\w*)\s*=`)
)

// hintHCL guesses what is wrong where the parser stopped, and gives a better
// place if it knows one.
func hintHCL(text string, at Pos) (better Pos, hint string) {
	line := lineOf(text, at.Line)
	if p, h := hintBare(line, at); h != "" {
		return p, h
	}
	// A quote that is missing shows on the line or on the one before.
	for _, n := range []int{at.Line, at.Line - 1} {
		if l := lineOf(text, n); strings.Count(stripComment(l), `"`)%2 == 1 {
			return Pos{Line: n, Column: strings.LastIndexByte(l, '"') + 1}, "a quote is missing in this line"
		}
	}
	if m := blankKey.FindStringSubmatchIndex(line); m != nil {
		key := line[m[2]:m[3]] + line[m[4]:m[5]]
		return Pos{Line: at.Line, Column: m[2] + 1}, "a name holds no blanks: did you mean " + key + "?"
	}
	if p, n := openBrace(text); n > 0 {
		return at, "the { of line " + strconv.Itoa(p.Line) + " is not closed"
	} else if n < 0 {
		return p, "this } closes nothing"
	}
	return at, ""
}

// hintBare finds a value that needs quotes, on the line where the parser
// stopped and not behind that place.
func hintBare(line string, at Pos) (Pos, string) {
	code := stripComment(line)
	for _, m := range oneBare.FindAllStringSubmatchIndex(code, -1) {
		value := code[m[4]:m[5]]
		if isPlain(value) {
			continue
		}
		return Pos{Line: at.Line, Column: m[4] + 1}, "put the value in quotes: " + code[m[2]:m[3]] + ` = "` + value + `"`
	}
	return at, ""
}

// isPlain tells values that need no quotes.
func isPlain(v string) bool {
	if v == "true" || v == "false" || strings.HasPrefix(v, "<<") {
		return true
	}
	_, err := strconv.ParseFloat(v, 64)
	return err == nil
}

// hintJSON guesses what is wrong in a line of JSON.
func hintJSON(line string) string {
	trimmed := strings.TrimSpace(line)
	switch {
	case strings.HasPrefix(trimmed, "#"), strings.HasPrefix(trimmed, "//"):
		return "JSON has no comments"
	case strings.HasPrefix(trimmed, "}"), strings.HasPrefix(trimmed, "]"):
		return "is there a comma too many in the line before?"
	case strings.HasPrefix(trimmed, `"`):
		return "is a comma missing in the line before, or a quote in this one?"
	}
	return ""
}

// openBrace returns the place of the last brace that is not closed (n > 0), or
// of the first that closes nothing (n < 0).
func openBrace(text string) (at Pos, n int) {
	var open []Pos
	line, start := 1, 0
	scan(text, func(i int, c byte) {
		here := Pos{Line: line, Column: i - start + 1}
		switch c {
		case '\n':
			line, start = line+1, i+1
		case '{':
			open = append(open, here)
		case '}':
			if n < 0 {
				return
			}
			if len(open) == 0 {
				at, n = here, -1
				return
			}
			open = open[:len(open)-1]
		}
	})
	if n == 0 && len(open) > 0 {
		return open[len(open)-1], len(open)
	}
	return at, n
}

// freeBraces moves a brace at the end of a comment before the comment, in lines
// that open a block and do not close it:
//
//	storage "file" { path = "x" # made if it does not exist }
func freeBraces(name, text string) (string, []Warning) {
	var warnings []Warning
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		code := stripComment(line)
		comment := strings.TrimRight(line[len(code):], " \t\r")
		if !strings.HasSuffix(comment, "}") {
			continue
		}
		if _, open := openBrace(code); open < 1 {
			continue
		}
		at := Pos{File: name, Line: i + 1, Column: len(code) + len(comment)}
		warnings = append(warnings, Warning{at, "this brace stands in a comment; it is taken to end the block of this line"})
		lines[i] = code + "} " + strings.TrimSuffix(comment, "}")
	}
	return strings.Join(lines, "\n"), warnings
}

// stripComment returns the part of a line before # or //.
func stripComment(line string) string {
	inString := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && inString:
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '#', c == '/' && i+1 < len(line) && line[i+1] == '/':
			return line[:i]
		}
	}
	return line
}

func lineOf(text string, n int) string {
	if n < 1 {
		return ""
	}
	for ; n > 1; n-- {
		_, rest, ok := strings.Cut(text, "\n")
		if !ok {
			return ""
		}
		text = rest
	}
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSuffix(line, "\r")
}
