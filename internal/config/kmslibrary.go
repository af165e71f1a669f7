package config

import (
	"strings"

	"arca/internal/config/source"
)

// A KMSLibrary is a PKCS#11 library that managed keys name:
// kms_library "pkcs11" { name = …, library = … }.
type KMSLibrary struct {
	source.Pos
	Name, Library string
}

// KMSLibraries are the kms_library stanzas, in their order.
type KMSLibraries []KMSLibrary

// SetConfig implements source.Setter.
func (l *KMSLibraries) SetConfig(it source.Item, d *source.Decoder) error {
	blocks, err := source.Blocks(it)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		where := `kms_library "` + b.Label + `"`
		if b.Label != "pkcs11" {
			return source.Errorf(b.Pos, "%s: the type of a kms_library is pkcs11", where)
		}
		in := struct {
			Name    string `conf:"name"`
			Library string `conf:"library"`
		}{}
		if err := d.Decode(b.Body, &in, where); err != nil {
			return err
		}
		switch {
		case in.Name == "":
			return source.Errorf(b.Pos, "%s: name is missing", where)
		case in.Library == "":
			return source.Errorf(b.Pos, "%s: library is missing: the path of the shared object", where)
		}
		for _, other := range *l {
			if strings.EqualFold(other.Name, in.Name) {
				return source.Errorf(b.Pos, "%s: there are two libraries of the name %q", where, in.Name)
			}
		}
		*l = append(*l, KMSLibrary{Pos: b.Pos, Name: in.Name, Library: in.Library})
	}
	return nil
}

// Paths are the libraries' paths by their names, which are in lower case.
func (l KMSLibraries) Paths() map[string]string {
	out := make(map[string]string, len(l))
	for _, k := range l {
		out[strings.ToLower(k.Name)] = k.Library
	}
	return out
}
