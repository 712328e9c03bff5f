package saml_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/beevik/etree"

	"github.com/ipuka/ipuka/identity/saml/samltest"
)

const xmlenc = "http://www.w3.org/2001/04/xmlenc#"

// opened is a bed that has encrypted assertions turned on, with the certificate to
// encrypt for.
func opened(t testing.TB) (*bed, *x509.Certificate) {
	b := newBed(t)
	b.verifier.Decryption = func() (*rsa.PrivateKey, error) { return b.other.Key.(*rsa.PrivateKey), nil }
	return b, b.other.Certificate
}

func TestEncrypted(t *testing.T) {
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	for _, c := range []struct {
		name   string
		layout string // what is signed: the assertion before it is encrypted, the response after
		o      samltest.Sealing
		reason string
	}{
		{"assertion signed", "assertion", samltest.Sealing{}, ""},
		{"response signed", "response", samltest.Sealing{}, ""},
		{"both signed", "both", samltest.Sealing{}, ""},
		{"SAML-18 nothing signed", "", samltest.Sealing{}, "saml_signature"},
		{"key beside the data", "assertion", samltest.Sealing{Element: func(e *etree.Element) {
			key := e.FindElement(".//EncryptedKey")
			info := key.Parent()
			info.Parent().RemoveChild(info)
			key.CreateAttr("xmlns:xenc", xmlenc)
			e.AddChild(key)
		}}, ""},
		{"SAML-31 CBC", "assertion", samltest.Sealing{Data: xmlenc + "aes128-cbc"}, "saml_encrypted"},
		{"SAML-31 CBC, not a block", "assertion", samltest.Sealing{Data: xmlenc + "aes128-cbc", Sealed: cut(17)}, "saml_encrypted"},
		{"SAML-32 3DES", "assertion", samltest.Sealing{Data: xmlenc + "tripledes-cbc"}, "saml_encrypted"},
		{"SAML-33 shorter than the nonce", "assertion", samltest.Sealing{Sealed: cut(5)}, "saml_encrypted"},
		{"shorter than the tag", "assertion", samltest.Sealing{Sealed: cut(20)}, "saml_encrypted"},
		{"nothing", "assertion", samltest.Sealing{Sealed: cut(0)}, "saml_encrypted"},
		{"one bit changed", "assertion", samltest.Sealing{Sealed: func(b []byte) []byte { b[40] ^= 1; return b }}, "saml_encrypted"},
		{"SAML-34 RSA 1.5", "assertion", samltest.Sealing{Transport: xmlenc + "rsa-1_5"}, "saml_encrypted"},
		{"SAML-34 wrapped key changed", "assertion", samltest.Sealing{Wrapped: func(b []byte) []byte { b[9] ^= 1; return b }}, "saml_encrypted"},
		{"wrapped key cut", "assertion", samltest.Sealing{Wrapped: cut(100)}, "saml_encrypted"},
		{"another size of key", "assertion", samltest.Sealing{Data: "http://www.w3.org/2009/xmlenc11#aes256-gcm"}, "saml_encrypted"},
		{"two keys", "assertion", samltest.Sealing{Element: func(e *etree.Element) {
			key := e.FindElement(".//EncryptedKey")
			key.Parent().AddChild(key.Copy())
		}}, "saml_encrypted"},
		{"no data", "assertion", samltest.Sealing{Element: remove("EncryptedData")}, "saml_encrypted"},
		{"no method", "assertion", samltest.Sealing{Element: remove("EncryptedData/EncryptionMethod")}, "saml_encrypted"},
		{"another assertion beside", "assertion", samltest.Sealing{Element: add(".", `<Assertion/>`)}, "saml_structure"},
		{"comment inside", "assertion", samltest.Sealing{Plain: func(b []byte) []byte { return bytes.Replace(b, []byte("alice"), []byte("ali<!-- -->ce"), 1) }}, "saml_comment"},
		{"DOCTYPE inside", "assertion", samltest.Sealing{Plain: func(b []byte) []byte { return append([]byte("<!DOCTYPE x>"), b...) }}, "saml_doctype"},
		{"no XML inside", "assertion", samltest.Sealing{Plain: func([]byte) []byte { return []byte("alice") }}, "saml_structure"},
		{"something else inside", "response", samltest.Sealing{Plain: func([]byte) []byte { return []byte("<x/>") }}, "saml_structure"},
		{"wrapped inside", "assertion", samltest.Sealing{Plain: func(b []byte) []byte {
			return append(append([]byte(`<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_evil">`), b...), "</saml:Assertion>"...)
		}}, "saml_structure"},
		{"changed inside", "assertion", samltest.Sealing{Plain: func(b []byte) []byte { return bytes.Replace(b, []byte("alice"), []byte("mallory"), 1) }}, "saml_signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, to := opened(t)
			asked, private := false, b.verifier.Decryption
			b.verifier.Decryption = func() (*rsa.PrivateKey, error) { asked = true; return private() }
			a := b.answer("assertion")
			a.SignAssertion = c.layout == "assertion" || c.layout == "both"
			d := b.idp.Document(t, a)
			samltest.Encrypt(t, d.Root(), to, c.o)
			if c.layout == "response" || c.layout == "both" {
				b.idp.Sign(t, d.Root(), samltest.Signing{})
			}
			x, refusal := b.verify(samltest.Encode(t, d))
			check(t, x, refusal, c.reason, "")
			if asked && (c.o.Transport != "" || strings.HasPrefix(c.o.Data, xmlenc)) {
				t.Error("a private key was used for an algorithm that is not accepted")
			}
			if c.reason == "saml_encrypted" {
				same(t, refusal.Detail)
			}
		})
	}
}

// same sees to it that whoever reads the details learns nothing about why.
func same(t *testing.T, detail string) {
	b, to := opened(t)
	d := b.idp.Document(t, b.answer("assertion"))
	samltest.Encrypt(t, d.Root(), to, samltest.Sealing{Sealed: func(b []byte) []byte { b[40] ^= 1; return b }})
	_, refusal := b.verify(samltest.Encode(t, d))
	if refusal == nil || refusal.Detail != detail {
		t.Errorf("%q is not what a wrong tag gets", detail)
	}
}

func TestEncryptedIsOffUnlessTurnedOn(t *testing.T) {
	b, to := opened(t)
	b.verifier.Decryption = nil
	d := b.idp.Document(t, b.answer("assertion"))
	samltest.Encrypt(t, d.Root(), to, samltest.Sealing{})
	x, refusal := b.verify(samltest.Encode(t, d))
	check(t, x, refusal, "saml_encrypted", "off for this organization")
}

// SAML-34: probes for padding oracles all get the one answer.
func TestProbes(t *testing.T) {
	b, to := opened(t)
	for range 100 {
		garbage := make([]byte, 256)
		_, _ = rand.Read(garbage)
		garbage[0] = 0
		d := b.idp.Document(t, b.answer("assertion"))
		samltest.Encrypt(t, d.Root(), to, samltest.Sealing{Wrapped: func([]byte) []byte { return garbage }})
		_, refusal := b.verify(samltest.Encode(t, d))
		if refusal == nil || refusal.Reason != "saml_encrypted" {
			t.Fatal(refusal)
		}
		same(t, refusal.Detail)
	}
}
