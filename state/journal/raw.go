package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// cursor walks a JSON text once, from left to right. Every value it hands out is a
// piece of the text itself, so whatever is not changed can be written back as it was.
type cursor struct {
	dec  *jsontext.Decoder
	src  []byte
	name int // where the name of the member being read begins
}

// strict reads what comes from a client: duplicate names and bad UTF-8 are refused.
func strict(src []byte) *cursor {
	return &cursor{dec: jsontext.NewDecoder(bytes.NewBuffer(src)), src: src}
}

// lenient reads what is stored already. To refuse it here would make a stack
// unusable for a flaw that does not concern replay.
func lenient(src []byte) *cursor {
	dec := jsontext.NewDecoder(bytes.NewBuffer(src), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return &cursor{dec: dec, src: src}
}

// value consumes one value of any kind.
func (c *cursor) value() ([]byte, error) {
	v, err := c.dec.ReadValue()
	return v, err
}

// null consumes a null if one comes next, and reports whether it did.
func (c *cursor) null() bool {
	return c.dec.PeekKind() == 'n' && c.dec.SkipValue() == nil
}

// end fails unless nothing but white space is left.
func (c *cursor) end() error {
	if _, err := c.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON value")
	}
	return nil
}

// object consumes an object and calls field with each member's name; field consumes
// the value. It returns the text of the whole object.
func (c *cursor) object(what string, field func(name []byte) error) ([]byte, error) {
	if err := c.open('{', what, "an object"); err != nil {
		return nil, err
	}
	start := c.dec.InputOffset() - 1
	for c.dec.PeekKind() != '}' {
		quoted, err := c.dec.ReadValue()
		if err != nil {
			return nil, err
		}
		c.name = int(c.dec.InputOffset()) - len(quoted)
		name, err := unquote(quoted)
		if err != nil {
			return nil, err
		}
		if err := field(name); err != nil {
			return nil, err
		}
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return nil, err
	}
	return c.src[start:c.dec.InputOffset()], nil
}

// array consumes an array and calls element for each element, which consumes it.
func (c *cursor) array(what string, element func() error) ([]byte, error) {
	if err := c.open('[', what, "an array"); err != nil {
		return nil, err
	}
	start := c.dec.InputOffset() - 1
	for c.dec.PeekKind() != ']' {
		if err := element(); err != nil {
			return nil, err
		}
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return nil, err
	}
	return c.src[start:c.dec.InputOffset()], nil
}

func (c *cursor) open(kind jsontext.Kind, what, shape string) error {
	if got := c.dec.PeekKind(); got != kind && got != 0 {
		return fmt.Errorf("%s is not %s", what, shape)
	}
	_, err := c.dec.ReadToken()
	return err
}

// text consumes a string into *to; null leaves it empty.
func (c *cursor) text(what string, to *string) error {
	v, err := c.value()
	if err != nil {
		return err
	}
	switch v[0] {
	case '"':
		name, err := unquote(v)
		*to = string(name)
		return err
	case 'n':
		*to = ""
		return nil
	}
	return fmt.Errorf("%s is not a string", what)
}

// texts consumes an array of strings; null is the empty list.
func (c *cursor) texts(what string, to *[]string) error {
	*to = nil
	if c.null() {
		return nil
	}
	_, err := c.array(what, func() error {
		var s string
		if err := c.text("an element of "+what, &s); err != nil {
			return err
		}
		*to = append(*to, s)
		return nil
	})
	return err
}

// flag consumes a boolean; null is false.
func (c *cursor) flag(what string, to *bool) error {
	v, err := c.value()
	if err != nil {
		return err
	}
	if v[0] != 't' && v[0] != 'f' && v[0] != 'n' {
		return fmt.Errorf("%s is not a boolean", what)
	}
	*to = v[0] == 't'
	return nil
}

// number consumes a whole number of at least 0.
func (c *cursor) number(what string, to *int64) error {
	v, err := c.value()
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%s is not a whole number of at least 0", what)
	}
	*to = n
	return nil
}

// unquote returns the text of a JSON string. It aliases the argument where it can.
func unquote(quoted []byte) ([]byte, error) {
	if len(quoted) >= 2 && bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], nil
	}
	text, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil && text == nil {
		return nil, err
	}
	return text, nil // bad UTF-8 has become the replacement character
}

func quote(dst []byte, text string) []byte {
	dst, _ = jsontext.AppendQuote(dst, text) // the error concerns bad UTF-8, which is replaced
	return dst
}

func quoteList(texts []string) []byte {
	out := []byte{'['}
	for i, text := range texts {
		if i > 0 {
			out = append(out, ',')
		}
		out = quote(out, text)
	}
	return append(out, ']')
}

// member is one name of an object with the text of its value.
type member struct {
	name  string
	value []byte
}

// edit sets a member of an object to a value, or removes it when the value is nil.
type edit = member

// splice applies edits to the members of the object raw. All other bytes stay; a
// member that is not there yet goes to the end.
func splice(raw []byte, edits []edit) ([]byte, error) {
	var spans []span
	used := make([]bool, len(edits))
	c := lenient(raw)
	whole, err := c.object("the value", func(name []byte) error {
		s := span{start: c.name, edit: -1}
		for i := range edits {
			if edits[i].name == string(name) {
				s.edit, used[i] = i, true
			}
		}
		value, err := c.value()
		if err != nil {
			return err
		}
		s.end = int(c.dec.InputOffset())
		s.value = s.end - len(value)
		spans = append(spans, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	open := int(c.dec.InputOffset()) - len(whole) + 1
	out, empty := splicePresent(raw, open, spans, edits)
	for i, e := range edits {
		if used[i] || e.value == nil {
			continue
		}
		if !empty {
			out = append(out, ',')
		}
		empty = false
		out = append(quote(out, e.name), ':')
		out = append(out, e.value...)
	}
	last := open
	if len(spans) > 0 {
		last = spans[len(spans)-1].end
	}
	return append(out, raw[last:]...), nil
}

// span is where a member stands in its object.
type span struct {
	start, value, end int
	edit              int // which edit concerns it, -1 for none
}

// splicePresent writes the members that exist, with the white space and commas
// between them. It reports whether none is left.
func splicePresent(raw []byte, open int, spans []span, edits []edit) (out []byte, empty bool) {
	out, empty = make([]byte, 0, len(raw)+64), true
	out = append(out, raw[:open]...)
	for i, s := range spans {
		if s.edit >= 0 && edits[s.edit].value == nil {
			continue
		}
		switch {
		case empty:
			out = append(out, raw[open:spans[0].start]...)
		default:
			out = append(out, raw[spans[i-1].end:s.start]...)
		}
		empty = false
		out = append(out, raw[s.start:s.value]...)
		if s.edit >= 0 {
			out = append(out, edits[s.edit].value...)
		} else {
			out = append(out, raw[s.value:s.end]...)
		}
	}
	return out, empty
}
