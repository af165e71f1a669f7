package source

// A Block is a labelled block: listener "tcp" { … }.
type Block struct {
	Pos
	Label string
	Body  Value
}

// Blocks reads an item in all the forms that a labelled block may have: with a
// label, an object by label, a list of either, or a body that names its label
// under "type".
func Blocks(it Item) ([]Block, error) {
	if len(it.Labels) > 1 {
		return nil, fault(it.Pos, "", "%s takes one label, not %d", it.Key, len(it.Labels))
	}
	if len(it.Labels) == 1 {
		return bodies(it, it.Labels[0], it.Value)
	}
	switch it.Value.Kind {
	case List:
		var out []Block
		for _, e := range it.Value.List {
			more, err := Blocks(Item{Pos: e.Pos, Key: it.Key, Value: e})
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
		return out, nil
	case Object:
		return byLabel(it)
	case Null, String, Number, Bool:
	}
	return nil, fault(it.Value.Pos, "", `%s must be a block such as %s "type" { … }, not %s`, it.Key, it.Key, it.Value.Kind)
}

func byLabel(it Item) ([]Block, error) {
	for _, e := range it.Value.Items {
		if e.Key == "type" && e.Value.Kind == String {
			return []Block{{it.Pos, e.Value.Text, it.Value}}, nil
		}
	}
	var out []Block
	for _, e := range it.Value.Items {
		if e.Value.Kind != Object && e.Value.Kind != List {
			return nil, fault(e.Pos, "", `%s needs a type, as in %s "type" { … }, before %s`, it.Key, it.Key, e.Key)
		}
		more, err := bodies(e, e.Key, e.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

func bodies(it Item, label string, v Value) ([]Block, error) {
	switch v.Kind {
	case Object:
		return []Block{{it.Pos, label, v}}, nil
	case List:
		var out []Block
		for _, e := range v.List {
			if e.Kind != Object {
				return nil, fault(e.Pos, "", "%s %q must be a block, not %s", it.Key, label, e.Kind)
			}
			out = append(out, Block{e.Pos, label, e})
		}
		return out, nil
	case Null, String, Number, Bool:
	}
	return nil, fault(v.Pos, "", "%s %q must be a block, not %s", it.Key, label, v.Kind)
}
