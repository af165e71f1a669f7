// Package archtest holds the shape of the source: which packages may import
// which (docs/ARCHITECTURE.md tells the layers), and the rules of
// docs/STYLE.md that a program can check. It has tests only.
package archtest
