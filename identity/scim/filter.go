package scim

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a filter or path.
const (
	maxFilter      = 2 << 10 // bytes
	maxFilterDepth = 20      // parentheses, brackets and "not" within each other
)

type filterKind int

const (
	filterAnd filterKind = iota
	filterOr
	filterNot
	filterCompare // path op value; op "pr" has no value
	filterValues  // path[left], for any of the values of path; with op set, of their path.sub
)

// filter is a parsed filter of RFC 7644 §3.4.2.2. One extension of it is understood,
// which Entra ID sends: emails[type eq "work"].value eq "x".
type filter struct {
	kind        filterKind
	left, right *filter
	path        attrPath
	op          string // in lower case
	value       literal
}

// attrPath is an attribute's name, as it was spelled: [schema ":"] name ["." sub].
type attrPath struct{ schema, name, sub string }

func (p attrPath) String() string {
	text := p.name
	if p.schema != "" {
		text = p.schema + ":" + text
	}
	if p.sub != "" {
		text += "." + p.sub
	}
	return text
}

type literalKind int

const (
	literalNull literalKind = iota
	literalBool
	literalNumber
	literalString
)

// literal is a value that attributes are compared with. The text of a string is
// unquoted, that of everything else as JSON has it.
type literal struct {
	kind literalKind
	text string
}

func (l literal) String() string {
	if l.kind != literalString {
		return l.text
	}
	quoted, _ := jsontext.AppendQuote(nil, l.text) // fails for invalid UTF-8 only, which is not parsed
	return string(quoted)
}

// String returns f in one canonical spelling, which parses to f again.
func (f *filter) String() string {
	switch f.kind {
	case filterAnd:
		return f.left.wrapped(filterOr) + " and " + f.right.wrapped(filterOr, filterAnd)
	case filterOr:
		return f.left.String() + " or " + f.right.wrapped(filterOr)
	case filterNot:
		return "not (" + f.left.String() + ")"
	case filterValues:
		head := attrPath{schema: f.path.schema, name: f.path.name}.String() + "[" + f.left.String() + "]"
		if f.op == "" {
			return head
		}
		return head + "." + f.path.sub + " " + f.comparison()
	default:
		return f.path.String() + " " + f.comparison()
	}
}

func (f *filter) comparison() string {
	if f.op == "pr" {
		return f.op
	}
	return f.op + " " + f.value.String()
}

// wrapped puts parentheses around f when it is one of some kinds.
func (f *filter) wrapped(kinds ...filterKind) string {
	for _, kind := range kinds {
		if f.kind == kind {
			return "(" + f.String() + ")"
		}
	}
	return f.String()
}

// parseFilter returns the filter that text is, or an error of scimType invalidFilter.
func parseFilter(text string) (*filter, error) {
	if len(text) > maxFilter {
		return nil, refuse(invalidFilter, "a filter has at most %d bytes", maxFilter)
	}
	p := &parser{text: text}
	f := p.or(0, false)
	p.space()
	if !p.failed && p.at < len(p.text) {
		p.fail("the end of the filter")
	}
	if p.failed {
		return nil, refuse(invalidFilter, "the filter is not understood at byte %d: %s was expected", p.at+1, p.expected)
	}
	return f, nil
}

// target is the path of a PATCH operation: an attribute, or some of its values.
type target struct {
	path   attrPath
	values *filter // nil: all of them
}

// parsePath returns the target that text is (RFC 7644 §3.5.2), or an error of
// scimType invalidPath.
func parsePath(text string) (target, error) {
	if len(text) > maxFilter {
		return target{}, refuse(invalidPath, "a path has at most %d bytes", maxFilter)
	}
	p := &parser{text: text}
	t := target{path: p.attribute()}
	if p.take('[') {
		t.values = p.or(1, true)
		p.space()
		if !p.failed && !p.take(']') {
			p.fail("]")
		}
		if p.take('.') {
			t.path.sub = p.name()
		}
	}
	if !p.failed && p.at < len(p.text) {
		p.fail("the end of the path")
	}
	if p.failed {
		return target{}, refuse(invalidPath, "the path is not understood at byte %d: %s was expected", p.at+1, p.expected)
	}
	return t, nil
}

// parser is a recursive descent over text. After the first failure it does nothing
// any more.
type parser struct {
	text     string
	at       int
	failed   bool
	expected string
}

func (p *parser) fail(expected string) {
	if !p.failed {
		p.failed, p.expected = true, expected
	}
}

func (p *parser) space() {
	for p.at < len(p.text) && p.text[p.at] == ' ' {
		p.at++
	}
}

func (p *parser) take(c byte) bool {
	if p.failed || p.at >= len(p.text) || p.text[p.at] != c {
		return false
	}
	p.at++
	return true
}

// keyword consumes word, in any case, when it is the next one.
func (p *parser) keyword(word string) bool {
	p.space()
	end := p.at + len(word)
	if p.failed || end > len(p.text) || !strings.EqualFold(p.text[p.at:end], word) || end < len(p.text) && nameByte(p.text[end]) {
		return false
	}
	p.at = end
	return true
}

func (p *parser) or(depth int, inside bool) *filter {
	left := p.and(depth, inside)
	for p.keyword("or") {
		left = &filter{kind: filterOr, left: left, right: p.and(depth, inside)}
	}
	return left
}

func (p *parser) and(depth int, inside bool) *filter {
	left := p.term(depth, inside)
	for p.keyword("and") {
		left = &filter{kind: filterAnd, left: left, right: p.term(depth, inside)}
	}
	return left
}

// term parses what "and" and "or" join. Inside of brackets there are no others.
func (p *parser) term(depth int, inside bool) *filter {
	if depth > maxFilterDepth {
		p.fail("less depth")
	}
	p.space()
	begin := p.at
	if p.keyword("not") {
		p.space()
		if p.take('(') {
			return &filter{kind: filterNot, left: p.closed(depth+1, inside, ')')}
		}
		p.at = begin // an attribute of that name
	}
	if p.take('(') {
		return p.closed(depth+1, inside, ')')
	}
	f := &filter{kind: filterCompare, path: p.attribute()}
	if !inside && p.take('[') {
		f.kind = filterValues
		if f.path.sub != "" {
			p.fail("no sub-attribute before [")
		}
		f.left = p.closed(depth+1, true, ']')
		if !p.take('.') {
			return f
		}
		f.path.sub = p.name()
	}
	p.comparison(f)
	return f
}

func (p *parser) closed(depth int, inside bool, end byte) *filter {
	if p.failed {
		return nil
	}
	f := p.or(depth, inside)
	p.space()
	if !p.take(end) {
		p.fail(string(end))
	}
	return f
}

var operators = []string{"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le", "pr"}

func (p *parser) comparison(f *filter) {
	if !p.failed && (p.at >= len(p.text) || p.text[p.at] != ' ') {
		p.fail("a space")
	}
	for _, op := range operators {
		if p.keyword(op) {
			f.op = op
			break
		}
	}
	switch f.op {
	case "":
		p.fail("one of " + strings.Join(operators, ", "))
	case "pr":
	default:
		f.value = p.literal()
		switch ordered := strings.Contains("gt ge lt le", f.op); {
		case p.failed:
		case ordered && (f.value.kind == literalBool || f.value.kind == literalNull):
			p.fail("a value that has an order")
		case strings.Contains("co sw ew", f.op) && f.value.kind != literalString:
			p.fail("a string")
		}
	}
}

func (p *parser) literal() literal {
	if !p.take(' ') {
		p.fail("a space")
	}
	p.space()
	switch {
	case p.keyword("true"):
		return literal{literalBool, "true"}
	case p.keyword("false"):
		return literal{literalBool, "false"}
	case p.keyword("null"):
		return literal{literalNull, "null"}
	case p.failed || p.at >= len(p.text):
	case p.text[p.at] == '"':
		return p.quoted()
	default:
		end := p.at
		for end < len(p.text) && strings.IndexByte("+-.0123456789eE", p.text[end]) >= 0 {
			end++
		}
		if text := p.text[p.at:end]; end > p.at && jsontext.Value(text).IsValid() {
			p.at = end
			return literal{literalNumber, text}
		}
	}
	p.fail(`a value: "text", a number, true, false or null`)
	return literal{}
}

func (p *parser) quoted() literal {
	end := p.at + 1
	for end < len(p.text) && p.text[end] != '"' {
		if p.text[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(p.text) {
		p.fail("a closing quote")
		return literal{}
	}
	text, err := jsontext.AppendUnquote(nil, p.text[p.at:end+1])
	if err != nil {
		p.fail("a JSON string")
		return literal{}
	}
	p.at = end + 1
	return literal{literalString, string(text)}
}

// attribute parses a name with the schema before it. The schema is a URN, which has
// dots of its own: "urn:ietf:params:scim:schemas:core:2.0:User:name.givenName".
func (p *parser) attribute() attrPath {
	if p.failed {
		return attrPath{}
	}
	var path attrPath
	if len(p.text)-p.at > 4 && strings.EqualFold(p.text[p.at:p.at+4], "urn:") {
		end := p.at
		for end < len(p.text) && (nameByte(p.text[end]) || p.text[end] == ':' || p.text[end] == '.') {
			end++
		}
		colon := p.at + strings.LastIndexByte(p.text[p.at:end], ':')
		path.schema = p.text[p.at:colon]
		p.at = colon + 1
	}
	path.name = p.name()
	if p.take('.') {
		path.sub = p.name()
	}
	return path
}

func (p *parser) name() string {
	begin := p.at
	for p.at < len(p.text) && nameByte(p.text[p.at]) {
		p.at++
	}
	name := p.text[begin:p.at]
	if name == "" || !letter(name[0]) && name[0] != '$' || name == "$" {
		p.at = begin
		p.fail("the name of an attribute")
	}
	return name
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func nameByte(c byte) bool {
	return letter(c) || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '$'
}
