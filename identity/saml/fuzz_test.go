package saml_test

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/beevik/etree"
	crewjam "github.com/crewjam/saml"

	"github.com/ipuka/ipuka/identity/saml"
)

// FuzzVerify is SAML-14. Whatever is sent, nothing panics; a document that is accepted
// names the same person to every reader; and a document that is let through to the
// readers looks the same to both of them, signed or not.
func FuzzVerify(f *testing.F) {
	b := newBed(f)
	for _, layout := range layouts {
		raw := text(f, b.idp.Document(f, b.answer(layout)))
		f.Add([]byte(raw))
		for _, d := range damaged {
			f.Add([]byte(d.change(raw)))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		root, err := saml.Parse(raw)
		x, refusal := b.verifyXML(string(raw))
		if err != nil {
			if refusal == nil {
				t.Fatal("accepted a document that is not read")
			}
			return
		}
		if one, other := byTree(root), byDecoder(t, raw); !slices.Equal(one, other) {
			for i := range one {
				if i >= len(other) || one[i] != other[i] {
					t.Fatalf("two readings, from here: %.200q and %.200q", one[i:], other[min(i, len(other)):])
				}
			}
			t.Fatal("two readings, one longer")
		}
		if refusal != nil {
			return
		}
		var response crewjam.Response
		if err := xml.Unmarshal(raw, &response); err != nil {
			t.Fatal(err)
		}
		nameID := root.FindElement("./Assertion/Subject/NameID")
		if x.Subject != "alice" || nameID.Text() != x.Subject || response.Assertion.Subject.NameID.Value != x.Subject {
			t.Fatalf("%q, %q and %q", x.Subject, nameID.Text(), response.Assertion.Subject.NameID.Value)
		}
	})
}

// byTree and byDecoder list what a document says as etree and encoding/xml read it.
func byTree(e *etree.Element) []string {
	said := []string{"<" + e.NamespaceURI() + " " + e.Tag}
	for _, a := range e.Attr {
		if a.Space == "" && a.Key != "xmlns" {
			said = append(said, "@"+a.Key+"="+a.Value)
		}
	}
	var text strings.Builder
	for _, child := range e.Child {
		switch child := child.(type) {
		case *etree.Element:
			said = append(said, flush(&text)...)
			said = append(said, byTree(child)...)
		case *etree.CharData:
			text.WriteString(child.Data)
		}
	}
	return append(append(said, flush(&text)...), ">")
}

func byDecoder(t *testing.T, raw []byte) []string {
	var said []string
	var text strings.Builder
	decoder := xml.NewDecoder(bytes.NewReader(raw))
	for depth := 0; ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return said
		}
		if err != nil {
			t.Fatalf("one reader only: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			said = append(said, flush(&text)...)
			said = append(said, "<"+token.Name.Space+" "+token.Name.Local)
			for _, a := range token.Attr {
				if a.Name.Space == "" && a.Name.Local != "xmlns" {
					said = append(said, "@"+a.Name.Local+"="+a.Value)
				}
			}
			depth++
		case xml.EndElement:
			said = append(append(said, flush(&text)...), ">")
			depth--
		case xml.CharData:
			if depth > 0 {
				text.Write(token)
			}
		}
	}
}

func flush(text *strings.Builder) []string {
	s := text.String()
	text.Reset()
	if s == "" {
		return nil
	}
	return []string{"=" + s}
}

// FuzzForm looks at what comes before the XML.
func FuzzForm(f *testing.F) {
	b := newBed(f)
	f.Add(b.idp.Response(f, b.answer("both")), state)
	f.Add("PHgvPg==\r\n", "")
	f.Fuzz(func(t *testing.T, encoded, relay string) {
		raw, err := base64.StdEncoding.DecodeString(encoded)
		_, refusal := b.verifier.Verify(map[string][]string{"SAMLResponse": {encoded}, "RelayState": {relay}}, b.flow, b.now)
		if refusal == nil && (err != nil || relay != state || !bytes.Contains(raw, []byte("alice"))) {
			t.Fatalf("accepted %q", encoded)
		}
	})
}
