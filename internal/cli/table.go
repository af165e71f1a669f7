package cli

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// lineWidth is where prose is broken.
const lineWidth = 78

// table lays out rows in columns four blanks apart. An empty cell shows "n/a".
// The rows under a heading follow a rule as long as each heading.
func table(heading []string, rows [][]string) string {
	all := rows
	if heading != nil {
		rule := make([]string, len(heading))
		for i, h := range heading {
			rule[i] = strings.Repeat("-", utf8.RuneCountInString(h))
		}
		all = append([][]string{heading, rule}, rows...)
	}
	var widths []int
	for _, row := range all {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(orNA(cell)))
		}
	}
	var b strings.Builder
	for _, row := range all {
		for i, cell := range row {
			cell = orNA(cell)
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+4))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// printable is text of others as a line for a terminal, which it can neither steer nor mislead:
// control characters, line breaks and marks that turn the direction are shown as question marks.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return '?'
		}
		return r
	}, text)
}

func orNA(s string) string {
	if s == "" {
		return "n/a"
	}
	return s
}

// banner centres a title between equal signs over a text of the given width,
// two at each end at least if it does not fit.
func banner(title string, width int) string {
	signs := width - len(title) - 2
	if signs <= 0 {
		signs = 4
	}
	side := strings.Repeat("=", (signs+1)/2)
	return side + " " + title + " " + side
}

// mapBanner is a banner as wide as a table of these keys with one-word values.
func mapBanner(title string, data map[string]any) string {
	longest := 0
	for k := range data {
		longest = max(longest, len(k))
	}
	return banner(title, longest+len("    Value"))
}

// wrap breaks text at blanks so that no line passes width, and indents each.
func wrap(text, indent string, width int) string {
	var lines []string
	for _, paragraph := range strings.Split(text, "\n") {
		line := ""
		for _, word := range strings.Fields(paragraph) {
			switch {
			case line == "":
				line = word
			case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
				lines = append(lines, indent+line)
				line = word
			default:
				line += " " + word
			}
		}
		lines = append(lines, indent+line)
	}
	return strings.Join(lines, "\n")
}
