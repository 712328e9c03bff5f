package saml_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/beevik/etree"
)

// parts of a genuine response that the attacker holds, for putting together otherwise.
type parts struct {
	document            *etree.Document
	response, assertion *etree.Element
}

func takeApart(t testing.TB, b *bed, layout string) parts {
	t.Helper()
	d := b.idp.Document(t, b.answer(layout))
	return parts{document: d, response: d.Root(), assertion: d.Root().SelectElement("Assertion")}
}

// forge returns a copy of e with another ID, and Mallory where Alice was.
func forge(e *etree.Element) *etree.Element {
	evil := e.Copy()
	evil.CreateAttr("ID", "_evil")
	for _, nameID := range evil.FindElements(".//NameID") {
		nameID.SetText("mallory")
	}
	return evil
}

func unsigned(e *etree.Element) *etree.Element {
	c := e.Copy()
	if s := c.SelectElement("Signature"); s != nil {
		c.RemoveChild(s)
	}
	return c
}

// signature returns the signature of the assertion or else of the response.
func (p parts) signature() *etree.Element {
	if s := p.assertion.SelectElement("Signature"); s != nil {
		return s.Copy()
	}
	return p.response.SelectElement("Signature").Copy()
}

// withSignature returns evil with s as its signature, after the issuer.
func withSignature(evil, s *etree.Element) *etree.Element {
	if old := evil.SelectElement("Signature"); old != nil {
		evil.RemoveChild(old)
	}
	evil.InsertChildAt(evil.SelectElement("Issuer").Index()+1, s)
	return evil
}

// wrappings are the eight of "On Breaking SAML" (Somorovsky et al., 2012), by the
// numbers that SAML Raider gave them. The first two wrap the response, the others the
// assertion.
var wrappings = map[string]func(p parts) *etree.Element{
	"XSW1": func(p parts) *etree.Element { // the genuine response inside the signature of the forged one
		evil, s := forge(p.response), p.outer()
		s.AddChild(unsigned(p.response))
		return withSignature(evil, s)
	},
	"XSW2": func(p parts) *etree.Element { // the genuine response before a detached signature
		evil := withSignature(forge(p.response), p.outer())
		evil.InsertChildAt(evil.SelectElement("Signature").Index(), unsigned(p.response))
		return evil
	},
	"XSW3": func(p parts) *etree.Element { // a forged assertion before the genuine one
		p.response.InsertChildAt(p.assertion.Index(), unsigned(forge(p.assertion)))
		return p.response
	},
	"XSW4": func(p parts) *etree.Element { // a forged assertion around the genuine one
		evil := unsigned(forge(p.assertion))
		at := p.assertion.Index()
		p.response.RemoveChildAt(at)
		evil.AddChild(p.assertion)
		p.response.InsertChildAt(at, evil)
		return p.response
	},
	"XSW5": func(p parts) *etree.Element { // the signature in the forged assertion, the genuine one at the end
		evil, genuine := withSignature(forge(p.assertion), p.signature()), unsigned(p.assertion)
		at := p.assertion.Index()
		p.response.RemoveChildAt(at)
		p.response.InsertChildAt(at, evil)
		p.response.AddChild(genuine)
		return p.response
	},
	"XSW6": func(p parts) *etree.Element { // the genuine assertion inside the signature of the forged one
		s := p.signature()
		s.AddChild(unsigned(p.assertion))
		at := p.assertion.Index()
		p.response.RemoveChildAt(at)
		p.response.InsertChildAt(at, withSignature(forge(p.assertion), s))
		return p.response
	},
	"XSW7": func(p parts) *etree.Element { // a forged assertion with the same ID in Extensions
		evil := unsigned(forge(p.assertion))
		evil.CreateAttr("ID", p.assertion.SelectAttrValue("ID", ""))
		extensions := etree.NewElement("samlp:Extensions")
		extensions.AddChild(evil)
		p.response.InsertChildAt(p.assertion.Index(), extensions)
		return p.response
	},
	"XSW8": func(p parts) *etree.Element { // the genuine assertion in an Object of the forged one's signature
		s := p.signature()
		s.CreateElement("ds:Object").AddChild(unsigned(p.assertion))
		evil := withSignature(forge(p.assertion), s)
		evil.CreateAttr("ID", p.assertion.SelectAttrValue("ID", ""))
		at := p.assertion.Index()
		p.response.RemoveChildAt(at)
		p.response.InsertChildAt(at, evil)
		return p.response
	},
	// Beyond the eight: who looks for signatures by their place, or by their name only.
	"signature in Extensions": func(p parts) *etree.Element {
		extensions := etree.NewElement("samlp:Extensions")
		extensions.AddChild(p.signature())
		evil := unsigned(p.response)
		evil.InsertChildAt(1, extensions)
		withForged(evil)
		return evil
	},
	"digest elsewhere": func(p parts) *etree.Element {
		extensions := etree.NewElement("samlp:Extensions")
		extensions.AddChild(p.signature().SelectElement("SignedInfo"))
		p.response.InsertChildAt(1, extensions)
		withForged(p.response)
		return p.response
	},
	"assertion in another namespace beside": func(p parts) *etree.Element {
		evil := unsigned(forge(p.assertion))
		evil.Space = ""
		evil.CreateAttr("xmlns", "urn:example:other")
		p.response.InsertChildAt(p.assertion.Index(), evil)
		return p.response
	},
	"two genuine assertions": func(p parts) *etree.Element {
		second := p.assertion.Copy()
		second.CreateAttr("ID", "_second")
		p.response.AddChild(second)
		return p.response
	},
	"encrypted assertion beside": func(p parts) *etree.Element {
		p.response.InsertChildAt(p.assertion.Index(), etree.NewElement("saml:EncryptedAssertion"))
		return p.response
	},
	"assertion in Advice": func(p parts) *etree.Element {
		p.assertion.CreateElement("saml:Advice").AddChild(unsigned(forge(p.assertion)))
		return p.response
	},
}

func withForged(response *etree.Element) {
	old := response.SelectElement("Assertion")
	at := old.Index()
	response.RemoveChildAt(at)
	response.InsertChildAt(at, unsigned(forge(old)))
}

// outer returns the signature of the response or else of the assertion.
func (p parts) outer() *etree.Element {
	if s := p.response.SelectElement("Signature"); s != nil {
		return s.Copy()
	}
	return p.signature()
}

// SAML-01 to SAML-08, SAML-11 and SAML-13.
func TestWrapping(t *testing.T) {
	for name, wrap := range wrappings {
		for _, layout := range layouts {
			t.Run(fmt.Sprintf("%s/%s", name, layout), func(t *testing.T) {
				b := newBed(t)
				raw := text(t, etree.NewDocumentWithRoot(wrap(takeApart(t, b, layout))))
				if strings.Contains(name, "XSW") && (!strings.Contains(raw, "mallory") || !strings.Contains(raw, ">alice<") || !strings.Contains(raw, "SignatureValue")) {
					t.Fatalf("not the attack: %s", raw)
				}
				x, refusal := b.verifyXML(raw)
				if refusal == nil {
					t.Fatalf("accepted as %q", x.Subject)
				}
				if !slices.Contains([]string{"saml_structure", "saml_signature"}, refusal.Reason) {
					t.Errorf("reason %s: %s", refusal.Reason, refusal.Detail)
				}
			})
		}
	}
}
