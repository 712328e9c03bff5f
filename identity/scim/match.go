package scim

import (
	"strconv"
	"strings"
	"time"
)

// fold is how text is compared where case does not matter. It is what the folded
// columns have, so that the database and this package agree.
func fold(text string) string { return strings.ToLower(text) }

// caseExact are the attributes whose case matters (RFC 7643 §4, §8.7.1), in lower case.
var caseExact = map[string]bool{
	"id": true, "externalid": true, "members.value": true, "groups.value": true, "members.$ref": true, "groups.$ref": true,
	"meta.resourcetype": true, "meta.location": true, "meta.version": true, "schemas": true,
}

// matches reports whether a resource of some schema satisfies f. An attribute that it
// has not, or that no resource has, is one without a value. Of an attribute with
// several values one is enough.
func (f *filter) matches(r resource, schema string) bool {
	switch f.kind {
	case filterAnd:
		return f.left.matches(r, schema) && f.right.matches(r, schema)
	case filterOr:
		return f.left.matches(r, schema) || f.right.matches(r, schema)
	case filterNot:
		return !f.left.matches(r, schema)
	}
	name := f.path.name
	if f.path.schema != "" && !strings.EqualFold(f.path.schema, schema) {
		name = "" // of an extension; none is kept
	}
	value, _ := member(r, name)
	if f.kind == filterCompare {
		return f.compareAny(value, fold(name))
	}
	for _, element := range list(value) {
		element, complex := element.(map[string]any)
		if !complex || !f.left.matchesValue(element, fold(name)) {
			continue
		}
		if f.op == "" {
			return true
		}
		if sub, _ := member(element, f.path.sub); f.compareOne(sub, fold(name)+"."+fold(f.path.sub)) {
			return true
		}
	}
	return false
}

// matchesValue is matches for one value of the attribute with a name.
func (f *filter) matchesValue(value map[string]any, name string) bool {
	switch f.kind {
	case filterAnd:
		return f.left.matchesValue(value, name) && f.right.matchesValue(value, name)
	case filterOr:
		return f.left.matchesValue(value, name) || f.right.matchesValue(value, name)
	case filterNot:
		return !f.left.matchesValue(value, name)
	}
	sub, _ := member(value, f.path.name)
	return f.compareOne(sub, name+"."+fold(f.path.name))
}

// compareAny compares the value of an attribute, or any of its values.
func (f *filter) compareAny(value any, name string) bool {
	values := list(value)
	if len(values) == 0 {
		return f.compareOne(nil, name)
	}
	for _, v := range values {
		full := name
		if complex, ok := v.(map[string]any); ok {
			sub := f.path.sub
			if sub == "" {
				sub = "value" // RFC 7643 §2.4: what the attribute is about
				if f.op == "pr" {
					return true
				}
			}
			v, _ = member(complex, sub)
			full += "." + fold(sub)
		} else if f.path.sub != "" {
			v = nil
		}
		if f.compareOne(v, full) {
			return true
		}
	}
	return false
}

func (f *filter) compareOne(value any, name string) bool {
	switch f.op {
	case "pr":
		return value != nil && value != ""
	case "ne":
		return !equal(value, f.value, name)
	case "eq":
		return equal(value, f.value, name)
	}
	text, ok := value.(string)
	if !ok || f.value.kind != literalString {
		return false
	}
	want := f.value.text
	if name == "meta.created" || name == "meta.lastmodified" {
		if at, err := time.Parse(time.RFC3339, want); err == nil {
			since, _ := time.Parse(time.RFC3339, text)
			return ordered(f.op, since.Compare(at))
		}
	}
	if !caseExact[name] {
		text, want = fold(text), fold(want)
	}
	switch f.op {
	case "co":
		return strings.Contains(text, want)
	case "sw":
		return strings.HasPrefix(text, want)
	case "ew":
		return strings.HasSuffix(text, want)
	}
	return ordered(f.op, strings.Compare(text, want))
}

func ordered(op string, compared int) bool {
	switch op {
	case "gt":
		return compared > 0
	case "ge":
		return compared >= 0
	case "lt":
		return compared < 0
	case "le":
		return compared <= 0
	}
	return false
}

func equal(value any, want literal, name string) bool {
	switch value := value.(type) {
	case nil:
		return want.kind == literalNull
	case bool:
		// Entra ID writes booleans as strings: active eq "True".
		return (want.kind == literalBool || want.kind == literalString) && strings.EqualFold(want.text, strconv.FormatBool(value))
	case string:
		switch {
		case want.kind != literalString:
			return false
		case name == "meta.created" || name == "meta.lastmodified":
			since, err := time.Parse(time.RFC3339, value)
			at, wrong := time.Parse(time.RFC3339, want.text)
			return err == nil && wrong == nil && since.Equal(at)
		case caseExact[name]:
			return value == want.text
		}
		return fold(value) == fold(want.text)
	}
	return false
}

// mentions reports whether f asks about an attribute, in lower case.
func (f *filter) mentions(name string) bool {
	if f == nil {
		return false
	}
	switch f.kind {
	case filterAnd, filterOr:
		return f.left.mentions(name) || f.right.mentions(name)
	case filterNot:
		return f.left.mentions(name)
	}
	return fold(f.path.name) == name
}
