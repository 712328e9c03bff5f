package saml

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// signatureMethods and digestMethods are what is believed in. SHA-1 is broken for
// signatures; HMAC with a public certificate as the key is no signature at all.
var (
	signatureMethods = []string{
		dsig.RSASHA256SignatureMethod, dsig.RSASHA384SignatureMethod, dsig.RSASHA512SignatureMethod,
		dsig.ECDSASHA256SignatureMethod, dsig.ECDSASHA384SignatureMethod, dsig.ECDSASHA512SignatureMethod,
	}
	digestMethods = []string{
		"http://www.w3.org/2001/04/xmlenc#sha256",
		"http://www.w3.org/2001/04/xmldsig-more#sha384",
		"http://www.w3.org/2001/04/xmlenc#sha512",
	}
)

// verified returns signed as its signature covers it, freshly parsed from the very
// bytes that were digested. Only that may be read: what is around it, and signed
// itself, may say something else to another reader (CVE-2020-15216).
//
// One certificate after the other is tried. KeyInfo is what the sender says about its
// key; it is not signed, and not asked.
func (v verifier) verified(signed, signature *etree.Element, now time.Time) (*etree.Element, error) {
	certificates := v.valid(now)
	if len(certificates) == 0 {
		return nil, refuse("saml_certificate", "every signing certificate of the identity provider has expired, or is not valid yet: upload its current descriptor")
	}
	id := attribute(signed, "ID")
	for _, certificate := range certificates {
		context := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{certificate}})
		context.Clock = dsig.NewFakeClockAt(now)
		element, err := context.Validate(v.bare(signed, signature, certificate))
		if err != nil || element == nil {
			continue
		}
		if element.Tag != signed.Tag || element.NamespaceURI() != signed.NamespaceURI() || attribute(element, "ID") != id {
			return nil, refuse("saml_structure", "a signature covers another element than it says")
		}
		return element, nil
	}
	if print := claimed(signature); print != "" && !v.knows(print) {
		return nil, refuse("saml_signature", "the response is signed with the certificate %s, which is not in the identity provider's descriptor", print)
	}
	return nil, refuse("saml_signature", "the signature is wrong: the response was changed, or signed with another key than those in the identity provider's descriptor")
}

// valid returns the certificates that are valid at a time.
func (v verifier) valid(now time.Time) []*x509.Certificate {
	var found []*x509.Certificate
	for _, c := range v.certificates {
		if !now.Before(c.NotBefore) && !now.After(c.NotAfter) {
			found = append(found, c)
		}
	}
	return found
}

func (v verifier) knows(print string) bool {
	for _, c := range v.certificates {
		if fingerprint(c) == print {
			return true
		}
	}
	return false
}

// bare returns a copy of signed that stands for itself, with all namespaces that are in
// scope declared, whose signature has no KeyInfo. The signature's value and KeyInfo
// are outside of what is signed.
func (v verifier) bare(signed, signature *etree.Element, certificate *x509.Certificate) *etree.Element {
	at := signature.Index()
	alone := bareCopy(signed)
	own, ok := alone.Child[at].(*etree.Element)
	if !ok {
		return alone
	}
	for _, part := range own.ChildElements() {
		switch part.Tag {
		case "KeyInfo":
			own.RemoveChild(part)
		case "SignatureValue":
			value, _ := text(part)
			value = strings.NewReplacer("\r", "", "\n", "").Replace(value)
			if key, ok := certificate.PublicKey.(*ecdsa.PublicKey); ok {
				value = asASN1(value, key)
			}
			part.SetText(value)
		}
	}
	return alone
}

// bareCopy returns a copy of e that stands for itself: all namespaces that are in scope
// are declared in it.
func bareCopy(e *etree.Element) *etree.Element {
	alone := e.Copy()
	for outer := e.Parent(); outer != nil; outer = outer.Parent() {
		for _, a := range outer.Attr {
			prefix, declares := a.Key, a.Space == "xmlns"
			if a.Space == "" && a.Key == "xmlns" {
				prefix, declares = "", true
			}
			if declares && !declared(alone, prefix) {
				alone.Attr = append(alone.Attr, etree.Attr{Space: a.Space, Key: a.Key, Value: a.Value})
			}
		}
	}
	return alone
}

func declared(e *etree.Element, prefix string) bool {
	for _, a := range e.Attr {
		if a.Space == "xmlns" && a.Key == prefix || prefix == "" && a.Space == "" && a.Key == "xmlns" {
			return true
		}
	}
	return false
}

// asASN1 returns an ECDSA signature as crypto/x509 reads it. XML signatures have the
// two numbers one after the other (RFC 6931 §2.3.6).
func asASN1(value string, key *ecdsa.PublicKey) string {
	size := (key.Params().BitSize + 7) / 8
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(raw) != 2*size {
		return value
	}
	pair := struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:])}
	der, err := asn1.Marshal(pair)
	if err != nil {
		return value
	}
	return base64.StdEncoding.EncodeToString(der)
}

// claimed returns the fingerprint of the certificate that a signature names in its
// KeyInfo, "" without one. It helps an administrator and proves nothing.
func claimed(signature *etree.Element) string {
	for _, info := range children(signature, signatureNS, "KeyInfo") {
		for _, data := range children(info, signatureNS, "X509Data") {
			for _, e := range children(data, signatureNS, "X509Certificate") {
				if encoded, ok := text(e); ok {
					if c, err := certificate(encoded); err == nil {
						return fingerprint(c)
					}
				}
			}
		}
	}
	return ""
}

// certificate reads a certificate from the base64 of X509Certificate.
func certificate(encoded string) (*x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(encoded), ""))
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// fingerprint is the SHA-256 of a certificate, as administration pages show it.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	digits := strings.ToUpper(hex.EncodeToString(sum[:]))
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(digits[i : i+2])
	}
	return b.String()
}
