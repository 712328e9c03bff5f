package saml

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/beevik/etree"
	xrv "github.com/mattermost/xml-roundtrip-validator"

	"github.com/ipuka/ipuka/internal/httpapi"
)

// What a response may cost. A large one from a real identity provider, with 150
// groups and two certificates, has 30 KiB and 250 elements.
const (
	maxEncoded    = 256 << 10 // of SAMLResponse, in base64
	maxElements   = 2000
	maxDepth      = 64
	maxAttributes = 64  // of one element
	maxName       = 256 // bytes of a name or prefix
)

// refused is why a response is not believed: the reason code for the audit record and
// words for an administrator.
type refused struct{ reason, detail string }

func (r *refused) Error() string { return r.reason + ": " + r.detail }

// refuse returns a *refused. Texts among args that somebody sent are cleaned and cut.
func refuse(reason, format string, args ...any) error {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = httpapi.Clean(text, 200)
		}
	}
	return &refused{reason: reason, detail: fmt.Sprintf(format, args...)}
}

// decode undoes the base64 of the HTTP-POST binding. Line breaks are allowed (RFC 2045
// §6.8, which SAML bindings §3.5.4 refers to), other characters outside the alphabet
// and sloppy padding are not.
func decode(text string) ([]byte, error) {
	if len(text) > maxEncoded {
		return nil, refuse("saml_too_large", "the response is larger than %d KiB", maxEncoded>>10)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text) // skips CR and LF
	if err != nil || len(raw) == 0 {
		return nil, refuse("saml_encoding", "SAMLResponse is not base64")
	}
	return raw, nil
}

// parse reads a document that it has first scanned for everything that costs too much
// or that two readers could read differently.
func parse(raw []byte) (*etree.Element, error) {
	if err := scan(raw); err != nil {
		return nil, err
	}
	// What does not survive encoding/xml's own writer has been used to sign one name
	// and show another (CVE-2020-29509 and its siblings).
	if err := xrv.Validate(bytes.NewReader(raw)); err != nil {
		return nil, refuse("saml_structure", "the response is XML of a kind that is not read the same way by everybody")
	}
	document := etree.NewDocument()
	document.ReadSettings.MaxDepth = maxDepth + 1
	if err := document.ReadFromBytes(raw); err != nil || document.Root() == nil {
		return nil, refuse("saml_structure", "the response is not XML")
	}
	return document.Root(), nil
}

// name is a QName of ASCII letters, with at most one prefix (Namespaces in XML §4).
var name = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// scanner counts the tokens of a document without building anything of them.
type scanner struct {
	raw             []byte
	open            []xml.Name // and beside it
	declared        [][]string // the prefixes that each of them declares
	roots, elements int
	// prefixes counts the open elements that declare one. A prefix that nobody has
	// declared is a namespace of its own to one reader and none to another.
	prefixes map[string]int
}

// scan reads raw once, and stops at the first thing that is too much or out of place.
func scan(raw []byte) error {
	if err := scanMarkup(raw); err != nil {
		return err
	}
	s := scanner{raw: raw, prefixes: map[string]int{"": 1, "xml": 1, "xmlns": 1}}
	decoder := xml.NewDecoder(bytes.NewReader(raw)) //nolint:gosec // bounded above, and only tokens; without a CharsetReader it is UTF-8 or nothing
	for {
		start := decoder.InputOffset()
		token, err := decoder.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return refuse("saml_structure", "the response is not XML")
		}
		if err := s.token(token, start, decoder.InputOffset()); err != nil {
			return err
		}
	}
	if len(s.open) != 0 || s.roots != 1 {
		return refuse("saml_structure", "the response is not one XML element")
	}
	return nil
}

// scanMarkup refuses whatever begins with "<!". "<" stands for itself nowhere in XML
// without those, so this is exact.
func scanMarkup(raw []byte) error {
	if i := bytes.Index(raw, []byte("<!")); i >= 0 {
		switch rest := raw[i:]; {
		case bytes.HasPrefix(rest, []byte("<!--")):
			// A reader that stops at a comment takes alice@acme.test<!---->.evil.test for alice.
			return refuse("saml_comment", "the response has an XML comment in it")
		case bytes.HasPrefix(rest, []byte("<![")):
			return refuse("saml_cdata", "the response has a CDATA section in it")
		}
		return refuse("saml_doctype", "the response has a document type declaration (DOCTYPE)")
	}
	return nil
}

func (s *scanner) token(token xml.Token, start, end int64) error {
	switch t := token.(type) {
	case xml.StartElement:
		return s.start(t)
	case xml.EndElement:
		if len(s.open) == 0 || s.open[len(s.open)-1] != t.Name {
			return refuse("saml_structure", "the response is not XML")
		}
		s.close()
	case xml.CharData:
		if len(s.open) == 0 {
			if len(bytes.TrimSpace(t)) > 0 {
				return refuse("saml_structure", "the response has text outside of its element")
			}
			return nil
		}
		// The readers of signatures differ about character references in them.
		if in := s.open[len(s.open)-1].Local; (in == "DigestValue" || in == "SignatureValue") && bytes.IndexByte(s.raw[start:end], '&') >= 0 {
			return refuse("saml_signature", "a digest or signature has a character reference in it")
		}
	case xml.ProcInst:
		if start != 0 || t.Target != "xml" {
			return refuse("saml_instruction", "the response has an XML processing instruction in it")
		}
	default:
		return refuse("saml_structure", "the response is not XML")
	}
	return nil
}

func (s *scanner) start(t xml.StartElement) error {
	if s.elements++; s.elements > maxElements || len(s.open) >= maxDepth || len(t.Attr) > maxAttributes {
		return refuse("saml_too_large", "the response has more than %d elements, a depth of more than %d or more than %d attributes on one element",
			maxElements, maxDepth, maxAttributes)
	}
	if len(s.open) == 0 {
		s.roots++
	}
	s.open, s.declared = append(s.open, t.Name), append(s.declared, nil)
	if !plain(t.Name) || t.Name.Space == "xmlns" {
		return refuse("saml_structure", "the response has an element with a name that XML namespaces do not allow")
	}
	for i, a := range t.Attr {
		if err := s.attribute(a, t.Attr[:i]); err != nil {
			return err
		}
	}
	for _, a := range t.Attr {
		if s.prefixes[a.Name.Space] == 0 {
			return errPrefix()
		}
	}
	if s.prefixes[t.Name.Space] == 0 {
		return errPrefix()
	}
	return nil
}

func errPrefix() error {
	return refuse("saml_structure", "the response uses an XML namespace prefix that it does not declare")
}

// attribute looks at one attribute of the innermost element, and those before it.
func (s *scanner) attribute(a xml.Attr, others []xml.Attr) error {
	if !plain(a.Name) {
		return refuse("saml_structure", "the response has an attribute with a name that XML namespaces do not allow")
	}
	if reserved(a) {
		return refuse("saml_structure", "the response declares a reserved XML namespace")
	}
	for _, b := range others {
		if a.Name == b.Name {
			return refuse("saml_structure", "the response has an element with the same attribute twice")
		}
	}
	if a.Name.Space == "xmlns" {
		last := len(s.declared) - 1
		s.declared[last] = append(s.declared[last], a.Name.Local)
		s.prefixes[a.Name.Local]++
	}
	return nil
}

// close leaves the innermost element, and the prefixes that it declares.
func (s *scanner) close() {
	last := len(s.open) - 1
	for _, prefix := range s.declared[last] {
		s.prefixes[prefix]--
	}
	s.open, s.declared = s.open[:last], s.declared[:last]
}

// plain reports whether n is a name as RawToken splits it: the prefix in Space.
func plain(n xml.Name) bool {
	if len(n.Local) > maxName || len(n.Space) > maxName {
		return false
	}
	return name.MatchString(n.Local) && (n.Space == "" || name.MatchString(n.Space))
}

// reserved reports whether a binds what Namespaces in XML §3 reserves.
func reserved(a xml.Attr) bool {
	const xmlNS, xmlnsNS = "http://www.w3.org/XML/1998/namespace", "http://www.w3.org/2000/xmlns/"
	switch {
	case a.Name.Space == "xmlns":
		return a.Name.Local == "xml" || a.Name.Local == "xmlns" || a.Value == "" || a.Value == xmlNS || a.Value == xmlnsNS
	case a.Name.Space == "" && a.Name.Local == "xmlns":
		return a.Value == xmlNS || a.Value == xmlnsNS
	}
	return false
}
