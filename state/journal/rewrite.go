package journal

import (
	"cmp"
	"slices"
)

// rewriter goes through a JSON text once and notes new texts for the strings that
// are URNs. All other bytes stay.
type rewriter struct {
	c       *cursor
	rename  func(urn string) string
	patches []patch
}

type patch struct {
	start, end int
	text       []byte
}

func newRewriter(src []byte, rename func(string) string) *rewriter {
	return &rewriter{c: lenient(src), rename: rename}
}

// result returns the text with the patches applied.
func (w *rewriter) result() []byte {
	if len(w.patches) == 0 {
		return w.c.src
	}
	slices.SortFunc(w.patches, func(a, b patch) int { return cmp.Compare(a.start, b.start) })
	out := make([]byte, 0, len(w.c.src)+64*len(w.patches))
	last := 0
	for _, p := range w.patches {
		out = append(append(out, w.c.src[last:p.start]...), p.text...)
		last = p.end
	}
	return append(out, w.c.src[last:]...)
}

// text consumes a value and, when it is a string that change changes, returns the
// patch for it.
func (w *rewriter) text(change func(string) string) (patch, bool, error) {
	v, err := w.c.value()
	if err != nil || v[0] != '"' {
		return patch{}, false, err
	}
	old, err := unquote(v)
	if err != nil {
		return patch{}, false, err
	}
	changed := change(string(old))
	if changed == string(old) {
		return patch{}, false, nil
	}
	end := int(w.c.dec.InputOffset())
	return patch{end - len(v), end, quote(nil, changed)}, true, nil
}

func (w *rewriter) change(change func(string) string) error {
	p, changed, err := w.text(change)
	if changed {
		w.patches = append(w.patches, p)
	}
	return err
}

func (w *rewriter) urn() error { return w.change(w.rename) }

// urns consumes a list of URNs, an object of such lists, or an object of URNs.
func (w *rewriter) urns() error {
	switch w.c.dec.PeekKind() {
	case '[':
		_, err := w.c.array("", w.urn)
		return err
	case '{':
		_, err := w.c.object("", func([]byte) error { return w.urns() })
		return err
	}
	return w.urn()
}

func (w *rewriter) provider() error {
	return w.change(func(reference string) string {
		urn, id, err := splitProvider(reference)
		if err != nil || w.rename(urn) == urn {
			return reference
		}
		return w.rename(urn) + "::" + id
	})
}

func (w *rewriter) skip() error { return w.c.dec.SkipValue() }

// snippet consumes a snippet, whose references are an object of URNs.
func (w *rewriter) snippet() error {
	if w.c.dec.PeekKind() != '{' {
		return w.skip()
	}
	_, err := w.c.object("snippet", func(name []byte) error {
		if string(name) == "references" {
			return w.urns()
		}
		return w.skip()
	})
	return err
}

// resource consumes a resource.
func (w *rewriter) resource() error {
	if w.c.dec.PeekKind() != '{' {
		return w.skip()
	}
	_, err := w.c.object("resource", func(name []byte) error {
		switch string(name) {
		case "urn", "parent", "deletedWith", "viewOf",
			"dependencies", "propertyDependencies", "replaceWith", "aliases":
			return w.urns()
		case "provider":
			return w.provider()
		case "inputs", "outputs", "replacementTrigger":
			return w.property()
		}
		return w.skip()
	})
	return err
}

// Property values that are more than JSON are objects with a signature.
const (
	signatureKey      = "4dabf18193072939515e22adb298388d"
	resourceSignature = "5cf8f73096256a8f31e491e813e4eb8e"
	outputSignature   = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
)

// property consumes a property value. The URN of a resource reference and the
// dependencies of an output are rewritten; the signature may come after them.
func (w *rewriter) property() error {
	switch w.c.dec.PeekKind() {
	case '[':
		_, err := w.c.array("", w.property)
		return err
	case '{':
	default:
		return w.skip()
	}
	var signature string
	var urns, dependencies []patch
	_, err := w.c.object("", func(name []byte) error {
		switch string(name) {
		case signatureKey:
			return w.text1(&signature)
		case "urn":
			if w.c.dec.PeekKind() != '"' {
				return w.property()
			}
			p, changed, err := w.text(w.rename)
			if changed {
				urns = append(urns, p)
			}
			return err
		case "dependencies":
			if w.c.dec.PeekKind() == '[' {
				return w.dependencies(&dependencies)
			}
		}
		return w.property()
	})
	switch signature {
	case resourceSignature:
		w.patches = append(w.patches, urns...)
	case outputSignature:
		w.patches = append(w.patches, dependencies...)
	}
	return err
}

// text1 consumes a value and keeps it when it is a string.
func (w *rewriter) text1(to *string) error {
	_, _, err := w.text(func(text string) string {
		*to = text
		return text
	})
	return err
}

// dependencies consumes a list that is one of URNs if its object is an output.
func (w *rewriter) dependencies(patches *[]patch) error {
	_, err := w.c.array("", func() error {
		if w.c.dec.PeekKind() != '"' {
			return w.property()
		}
		p, changed, err := w.text(w.rename)
		if changed {
			*patches = append(*patches, p)
		}
		return err
	})
	return err
}
