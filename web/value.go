package web

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// secretText stands on a page wherever state has a secret value.
const secretText = "[secret]"

// Pulumi marks values that JSON has no form for by an object with this member. The
// member's value says what the object stands for.
const (
	markMember     = "4dabf18193072939515e22adb298388d"
	markSecret     = "1b47061264138c4ac30d75fd1eb44270"
	markAsset      = "c44067f5952c0a294b673a41bacd8c17"
	markArchive    = "0def7320c3a5731c473e5ecbe6d01bc7"
	markResource   = "5cf8f73096256a8f31e491e813e4eb8e"
	markOutput     = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
	maxValueString = 4096 // bytes of one string that a page shows
)

// value is a JSON value of a program's state without its secrets. Numbers keep the
// digits they were written with, and objects the order of their members.
type value struct {
	kind    jsontext.Kind // as in jsontext; 's' for a secret
	text    string        // of a string, number or literal
	members []member
	items   []value
}

type member struct {
	name  string
	value value
}

const kindSecret jsontext.Kind = 's'

var secretValue = value{kind: kindSecret}

// parseValue reads raw. What cannot be read is taken for a secret: a page never
// shows text whose secrets it could not find.
func parseValue(raw jsontext.Value) value {
	if len(raw) == 0 {
		return value{kind: 'n', text: "null"}
	}
	dec := jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	v, err := readValue(dec)
	if err != nil {
		return secretValue
	}
	return v
}

func readValue(dec *jsontext.Decoder) (value, error) {
	token, err := dec.ReadToken()
	if err != nil {
		return value{}, err
	}
	switch token.Kind() {
	case '{':
		return readObject(dec)
	case '[':
		v := value{kind: '['}
		for dec.PeekKind() != ']' {
			item, err := readValue(dec)
			if err != nil {
				return value{}, err
			}
			v.items = append(v.items, item)
		}
		_, err := dec.ReadToken()
		return v, err
	default:
		return value{kind: token.Kind(), text: token.String()}, nil
	}
}

func readObject(dec *jsontext.Decoder) (value, error) {
	v := value{kind: '{'}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return value{}, err
		}
		m := member{name: name.String()}
		if m.value, err = readValue(dec); err != nil {
			return value{}, err
		}
		v.members = append(v.members, m)
	}
	if _, err := dec.ReadToken(); err != nil {
		return value{}, err
	}
	return v.masked(), nil
}

// masked replaces v, an object that has just been read, when it stands for a
// secret. An object with a mark that is not known is a secret: newer engines may
// have kinds of secret that this version has not heard of.
func (v value) masked() value {
	for _, m := range v.members {
		// Encrypted values within structured configuration.
		if m.name == "secure" && len(v.members) == 1 {
			return secretValue
		}
		if m.name != markMember {
			continue
		}
		switch m.value.text {
		case markAsset, markArchive, markResource:
		case markOutput:
			if secret, ok := v.at("secret"); ok && secret.kind == 't' {
				return secretValue
			}
		default:
			return secretValue
		}
	}
	return v
}

func (v value) at(name string) (value, bool) {
	for _, m := range v.members {
		if m.name == name {
			return m.value, true
		}
	}
	return value{}, false
}

// Secret reports whether the whole value is one.
func (v value) Secret() bool { return v.kind == kindSecret || v.kind == '"' && v.text == secretText }

// Multiline reports whether the value needs more than a line.
func (v value) Multiline() bool {
	switch v.kind {
	case '{', '[':
		return len(v.members)+len(v.items) > 0
	}
	return strings.Contains(v.text, "\n") || len(v.text) > 120
}

// String returns the value as JSON, indented, but a string without its quotes.
func (v value) String() string {
	if v.kind == '"' {
		return cut(v.text)
	}
	var b strings.Builder
	v.write(&b, "")
	return b.String()
}

func (v value) write(b *strings.Builder, indent string) {
	switch v.kind {
	case kindSecret:
		b.WriteString(secretText)
	case '"':
		b.WriteString(quote(cut(v.text)))
	case '{':
		writeList(b, indent, "{", "}", len(v.members), func(i int) {
			b.WriteString(quote(v.members[i].name) + ": ")
			v.members[i].value.write(b, indent+"  ")
		})
	case '[':
		writeList(b, indent, "[", "]", len(v.items), func(i int) { v.items[i].write(b, indent+"  ") })
	default:
		b.WriteString(v.text)
	}
}

func writeList(b *strings.Builder, indent, open, end string, n int, item func(int)) {
	b.WriteString(open)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n" + indent + "  ")
		item(i)
	}
	if n > 0 {
		b.WriteString("\n" + indent)
	}
	b.WriteString(end)
}

func quote(text string) string {
	quoted, err := jsontext.AppendQuote(nil, text)
	if err != nil {
		return `"` + strings.ToValidUTF8(text, "") + `"`
	}
	return string(quoted)
}

func cut(text string) string {
	if len(text) <= maxValueString {
		return text
	}
	return strings.ToValidUTF8(text[:maxValueString], "") + fmt.Sprintf("… (%d bytes)", len(text))
}

// equal reports whether two values look the same on a page. Two secrets do.
func (v value) equal(w value) bool {
	if v.Secret() && w.Secret() {
		return true
	}
	if v.kind != w.kind || v.text != w.text || len(v.members) != len(w.members) || len(v.items) != len(w.items) {
		return false
	}
	for i := range v.items {
		if !v.items[i].equal(w.items[i]) {
			return false
		}
	}
	for _, m := range v.members {
		if other, ok := w.at(m.name); !ok || !m.value.equal(other) {
			return false
		}
	}
	return true
}

// lookup follows a property path as the engine writes it: a.b[0]["c.d"].
func (v value) lookup(path string) (value, bool) {
	for path != "" {
		var name string
		var index int
		var ok bool
		if name, index, path, ok = nextStep(path); !ok {
			return value{}, false
		}
		if index >= 0 {
			if index >= len(v.items) {
				return value{}, false
			}
			v = v.items[index]
			continue
		}
		if v.Secret() {
			return v, true
		}
		if v, ok = v.at(name); !ok {
			return value{}, false
		}
	}
	return v, true
}

// nextStep takes the first step off path. Its index is -1 for a step by name.
func nextStep(path string) (name string, index int, rest string, ok bool) {
	if strings.HasPrefix(path, `["`) {
		end := strings.Index(path, `"]`)
		if end < 2 {
			return "", 0, "", false
		}
		return strings.ReplaceAll(path[2:end], `\"`, `"`), -1, strings.TrimPrefix(path[end+2:], "."), true
	}
	if strings.HasPrefix(path, "[") {
		end := strings.IndexByte(path, ']')
		if end < 2 || end > 8 {
			return "", 0, "", false
		}
		for _, c := range path[1:end] {
			if c < '0' || c > '9' {
				return "", 0, "", false
			}
			index = index*10 + int(c-'0')
		}
		return "", index, strings.TrimPrefix(path[end+1:], "."), true
	}
	end := strings.IndexAny(path, ".[")
	if end == 0 {
		return "", 0, "", false
	}
	if end < 0 {
		return path, -1, "", true
	}
	return path[:end], -1, strings.TrimPrefix(path[end:], "."), true
}
