// Package samltest has identity providers for tests of SAML: a Signer that makes the
// responses a test asks for, wrong ones included, and SimpleSAMLphp as somebody else's.
package samltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // for signatures that must be refused
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
)

// Formats and methods, as they stand in documents.
const (
	Persistent   = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
	EmailAddress = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
	Transient    = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
	Redirect     = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
	POST         = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
)

// Signer is an identity provider without a server: a name and a key.
type Signer struct {
	EntityID    string
	Key         crypto.Signer
	Certificate *x509.Certificate
}

// keys are made once in a test process, for time's sake.
var keys struct {
	sync.Mutex
	made []*rsa.PrivateKey
}

func key(t testing.TB, n int) *rsa.PrivateKey {
	t.Helper()
	keys.Lock()
	defer keys.Unlock()
	for len(keys.made) <= n {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		keys.made = append(keys.made, k)
	}
	return keys.made[n]
}

// NewSigner returns an identity provider with the n-th RSA key of the process and a
// certificate that is valid for ten years around now.
func NewSigner(t testing.TB, entityID string, n int) *Signer {
	t.Helper()
	k := key(t, n)
	return &Signer{EntityID: entityID, Key: k, Certificate: Certificate(t, k, time.Now().AddDate(-5, 0, 0), time.Now().AddDate(5, 0, 0))}
}

// NewECDSASigner returns an identity provider with a P-256 key.
func NewECDSASigner(t testing.TB, entityID string) *Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Signer{EntityID: entityID, Key: k, Certificate: Certificate(t, k, time.Now().AddDate(-5, 0, 0), time.Now().AddDate(5, 0, 0))}
}

// Certificate returns a self-signed certificate. All of them have the same names and
// serial number.
func Certificate(t testing.TB, k crypto.Signer, begin, end time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "idp.example.test"}, NotBefore: begin, NotAfter: end,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Descriptor returns the identity provider's metadata with a single sign-on address
// for each binding.
func (s *Signer) Descriptor(sso string, bindings ...string) string {
	var services strings.Builder
	for _, b := range bindings {
		fmt.Fprintf(&services, `<md:SingleSignOnService Binding="%s" Location="%s"/>`, b, escape(sso))
	}
	return fmt.Sprintf(`<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="%s">`+
		`<md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">`+
		`<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>%s</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>`+
		`<md:NameIDFormat>%s</md:NameIDFormat>%s</md:IDPSSODescriptor></md:EntityDescriptor>`,
		escape(s.EntityID), base64.StdEncoding.EncodeToString(s.Certificate.Raw), Persistent, services.String())
}

// Answer is what a response says. Its zero texts are left out of the document.
type Answer struct {
	Audience, ACS, InResponseTo string
	NameID, Format              string
	Now                         time.Time
	SessionEnd                  time.Time
	Attributes                  [][]string // the name first, then the values

	SignResponse, SignAssertion bool
	Signing                     Signing

	// Assertion and Response may change what has been made before it is signed.
	Assertion, Response func(*etree.Element)
}

// Signing says how to sign when it is not RSA-SHA256.
type Signing struct {
	Method, Digest string
	Hash           crypto.Hash
	Key            crypto.Signer
	Certificate    *x509.Certificate
	// Info may change SignedInfo before it is signed.
	Info func(info *etree.Element)
}

// Document returns a response.
func (s *Signer) Document(t testing.TB, a Answer) *etree.Document {
	t.Helper()
	assertion := parse(t, s.assertion(a))
	if a.Assertion != nil {
		a.Assertion(assertion)
	}
	if a.SignAssertion {
		s.Sign(t, assertion, a.Signing)
	}
	response := parse(t, fmt.Sprintf(`<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="%s" Version="2.0" IssueInstant="%s"%s%s>`+
		`<saml:Issuer>%s</saml:Issuer><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status></samlp:Response>`,
		newID(), Instant(a.Now), given("Destination", a.ACS), given("InResponseTo", a.InResponseTo), escape(s.EntityID)))
	response.AddChild(assertion)
	if a.Response != nil {
		a.Response(response)
	}
	if a.SignResponse {
		s.Sign(t, response, a.Signing)
	}
	return etree.NewDocumentWithRoot(response)
}

// Response returns a response as the value of SAMLResponse.
func (s *Signer) Response(t testing.TB, a Answer) string {
	t.Helper()
	return Encode(t, s.Document(t, a))
}

// Encode returns a document as the value of SAMLResponse.
func Encode(t testing.TB, document *etree.Document) string {
	t.Helper()
	raw, err := document.WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func (s *Signer) assertion(a Answer) string {
	var attributes strings.Builder
	for _, one := range a.Attributes {
		fmt.Fprintf(&attributes, `<saml:Attribute Name="%s">`, escape(one[0]))
		for _, value := range one[1:] {
			fmt.Fprintf(&attributes, `<saml:AttributeValue xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">%s</saml:AttributeValue>`, escape(value))
		}
		attributes.WriteString(`</saml:Attribute>`)
	}
	statement := ""
	if attributes.Len() > 0 {
		statement = "<saml:AttributeStatement>" + attributes.String() + "</saml:AttributeStatement>"
	}
	session := ""
	if !a.SessionEnd.IsZero() {
		session = Instant(a.SessionEnd)
	}
	end := Instant(a.Now.Add(5 * time.Minute))
	return fmt.Sprintf(`<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="%s" Version="2.0" IssueInstant="%s">`+
		`<saml:Issuer>%s</saml:Issuer><saml:Subject><saml:NameID%s>%s</saml:NameID>`+
		`<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="%s"%s%s/></saml:SubjectConfirmation></saml:Subject>`+
		`<saml:Conditions NotBefore="%s" NotOnOrAfter="%s"><saml:AudienceRestriction><saml:Audience>%s</saml:Audience></saml:AudienceRestriction></saml:Conditions>`+
		`<saml:AuthnStatement AuthnInstant="%s"%s><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>%s</saml:Assertion>`,
		newID(), Instant(a.Now), escape(s.EntityID), given("Format", a.Format), escape(a.NameID),
		end, given("Recipient", a.ACS), given("InResponseTo", a.InResponseTo),
		Instant(a.Now.Add(-time.Minute)), end, escape(a.Audience), Instant(a.Now), given("SessionNotOnOrAfter", session), statement)
}

// Sign puts an enveloped signature after the Issuer of e.
func (s *Signer) Sign(t testing.TB, e *etree.Element, o Signing) {
	t.Helper()
	if o.Method == "" {
		o.Method, o.Hash = dsig.RSASHA256SignatureMethod, crypto.SHA256
		if _, ok := s.Key.(*ecdsa.PrivateKey); ok {
			o.Method = dsig.ECDSASHA256SignatureMethod
		}
	}
	if o.Digest == "" {
		o.Digest = "http://www.w3.org/2001/04/xmlenc#sha256"
	}
	if o.Key == nil {
		o.Key = s.Key
	}
	if o.Certificate == nil {
		o.Certificate = s.Certificate
	}
	signature := parse(t, fmt.Sprintf(`<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo>`+
		`<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod Algorithm="%s"/>%s</ds:SignedInfo>`+
		`<ds:SignatureValue/><ds:KeyInfo><ds:X509Data><ds:X509Certificate>%s</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>`,
		o.Method, Reference(t, e, o.Digest), base64.StdEncoding.EncodeToString(o.Certificate.Raw)))
	info := signature.SelectElement("SignedInfo")
	if o.Info != nil {
		o.Info(info)
	}
	alone := info.Copy()
	alone.CreateAttr("xmlns:ds", "http://www.w3.org/2000/09/xmldsig#")
	value, err := o.sign(canonical(t, alone))
	if err != nil {
		t.Fatal(err)
	}
	signature.SelectElement("SignatureValue").SetText(base64.StdEncoding.EncodeToString(value))
	at := 0
	if issuer := e.SelectElement("Issuer"); issuer != nil {
		at = issuer.Index() + 1
	}
	e.InsertChildAt(at, signature)
}

func (o Signing) sign(content []byte) ([]byte, error) {
	h := o.Hash.New()
	h.Write(content)
	value, err := o.Key.Sign(rand.Reader, h.Sum(nil), o.Hash)
	if k, ok := o.Key.(*ecdsa.PrivateKey); ok && err == nil { // RFC 6931 §2.3.6
		var pair struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(value, &pair); err != nil {
			return nil, err
		}
		size := (k.Params().BitSize + 7) / 8
		return append(pair.R.FillBytes(make([]byte, size)), pair.S.FillBytes(make([]byte, size))...), nil
	}
	return value, err
}

// Reference returns the Reference to e for a SignedInfo.
func Reference(t testing.TB, e *etree.Element, algorithm string) string {
	t.Helper()
	hash := map[string]crypto.Hash{
		"http://www.w3.org/2000/09/xmldsig#sha1":        crypto.SHA1,
		"http://www.w3.org/2001/04/xmlenc#sha256":       crypto.SHA256,
		"http://www.w3.org/2001/04/xmldsig-more#sha384": crypto.SHA384,
		"http://www.w3.org/2001/04/xmlenc#sha512":       crypto.SHA512,
	}[algorithm].New()
	hash.Write(canonical(t, e))
	return fmt.Sprintf(`<ds:Reference xmlns:ds="http://www.w3.org/2000/09/xmldsig#" URI="#%s"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>`+
		`<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms><ds:DigestMethod Algorithm="%s"/><ds:DigestValue>%s</ds:DigestValue></ds:Reference>`,
		e.SelectAttrValue("ID", ""), algorithm, base64.StdEncoding.EncodeToString(hash.Sum(nil)))
}

func canonical(t testing.TB, e *etree.Element) []byte {
	t.Helper()
	raw, err := dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("").Canonicalize(e.Copy())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Instant returns a time as SAML writes it.
func Instant(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

func parse(t testing.TB, text string) *etree.Element {
	t.Helper()
	d := etree.NewDocument()
	if err := d.ReadFromString(text); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	root := d.Root()
	d.RemoveChild(root)
	return root
}

func newID() string { return "_" + strings.ToLower(rand.Text()) }

func given(attribute, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf(` %s="%s"`, attribute, escape(value))
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
