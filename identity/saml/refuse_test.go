package saml_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/saml"
	"github.com/ipuka/ipuka/identity/saml/samltest"
)

// edit changes an attribute of the first element of a name, and removes it for "".
func edit(path, key, value string) func(*etree.Element) {
	return func(e *etree.Element) {
		if path != "." {
			e = e.FindElement(path)
		}
		e.RemoveAttr(key)
		if value != "" {
			e.CreateAttr(key, value)
		}
	}
}

func remove(path string) func(*etree.Element) {
	return func(e *etree.Element) {
		found := e.FindElement(path)
		found.Parent().RemoveChild(found)
	}
}

func retext(path, value string) func(*etree.Element) {
	return func(e *etree.Element) { e.FindElement(path).SetText(value) }
}

// add puts a copy of XML into the first element of a path.
func add(path, raw string) func(*etree.Element) {
	return func(e *etree.Element) {
		d := etree.NewDocument()
		if err := d.ReadFromString(raw); err != nil {
			panic(err)
		}
		if path != "." {
			e = e.FindElement(path)
		}
		e.AddChild(d.Root())
	}
}

const (
	otherConf = `<saml:SubjectConfirmation xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" Method="urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"/>`
	second    = `<saml:AudienceRestriction xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"><saml:Audience>https://other.example.test</saml:Audience></saml:AudienceRestriction>`
	another   = `<saml:Audience xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">https://other.example.test</saml:Audience>`
	condition = `<saml:Condition xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"/>`
)

func at(t time.Time) string { return samltest.Instant(t) }

// said are answers that the identity provider has signed as they are.
var said = []struct {
	name   string
	change func(b *bed, a *samltest.Answer)
	reason string // "" is accepted
	detail string // a part of it
}{
	{"SAML-27 recipient of another", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "Recipient", "https://other.example.test/acs")
	}, "saml_recipient", "other.example.test"},
	{"SAML-27 no recipient", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "Recipient", "")
	}, "saml_recipient", "(none)"},
	{"SAML-27 recipient over http", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "Recipient", strings.Replace(acs, "https", "http", 1))
	}, "saml_recipient", "http://"},
	{"SAML-27 recipient of another organization", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "Recipient", strings.Replace(acs, "acme", "globex", 1))
	}, "saml_recipient", "globex"},
	{"no confirmation at all", func(b *bed, a *samltest.Answer) { a.Assertion = remove(".//SubjectConfirmation") }, "saml_recipient", "bearer"},
	{"confirmation without data", func(b *bed, a *samltest.Answer) { a.Assertion = remove(".//SubjectConfirmationData") }, "saml_recipient", "no data"},
	{"holder of key only", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmation", "Method", "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key")
	}, "saml_recipient", "bearer"},
	{"another confirmation beside", func(b *bed, a *samltest.Answer) { a.Assertion = add(".//Subject", otherConf) }, "", ""},
	{"confirmation with NotBefore", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "NotBefore", at(b.now.Add(-time.Minute)))
	}, "saml_recipient", "NotBefore"},

	{"SAML-28 wrong destination", func(b *bed, a *samltest.Answer) {
		a.Response = edit(".", "Destination", "https://other.example.test/acs")
	}, "saml_destination", "other.example.test"},

	{"SAML-29 confirmation over by 181 s", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "NotOnOrAfter", at(b.now.Add(-181*time.Second)))
	}, "saml_expired", "good until"},
	{"SAML-29 conditions over by 181 s", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//Conditions", "NotOnOrAfter", at(b.now.Add(-181*time.Second)))
	}, "saml_expired", "good until"},
	{"SAML-29 confirmation over by 60 s", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "NotOnOrAfter", at(b.now.Add(-time.Minute)))
	}, "", ""},
	{"SAML-29 conditions over by 60 s", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//Conditions", "NotOnOrAfter", at(b.now.Add(-time.Minute)))
	}, "", ""},
	{"SAML-29 NotBefore in 181 s", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//Conditions", "NotBefore", at(b.now.Add(181*time.Second)))
	}, "saml_not_yet", "good from"},
	{"SAML-29 NotBefore in 60 s", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//Conditions", "NotBefore", at(b.now.Add(time.Minute)))
	}, "", ""},
	{"SAML-29 assertion six minutes old", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".", "IssueInstant", at(b.now.Add(-6*time.Minute)))
	}, "saml_expired", "issued at"},
	{"SAML-29 response six minutes old", func(b *bed, a *samltest.Answer) {
		a.Response = edit(".", "IssueInstant", at(b.now.Add(-6*time.Minute)))
	}, "saml_expired", "issued at"},
	{"SAML-29 assertion of in ten hours", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".", "IssueInstant", at(b.now.Add(10*time.Hour)))
	}, "saml_not_yet", "clock"},
	{"SAML-29 no end of the confirmation", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "NotOnOrAfter", "")
	}, "saml_expired", "no NotOnOrAfter"},
	{"SAML-29 no end of the conditions", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//Conditions", "NotOnOrAfter", "")
	}, "saml_expired", "no NotOnOrAfter"},
	{"no IssueInstant", func(b *bed, a *samltest.Answer) { a.Assertion = edit(".", "IssueInstant", "") }, "saml_structure", "IssueInstant"},
	{"a time without a zone", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//Conditions", "NotOnOrAfter", "2030-01-02T03:04:05")
	}, "saml_structure", "NotOnOrAfter"},
	{"SAML-48 clock ahead by 170 s", func(b *bed, a *samltest.Answer) { b.now = b.now.Add(170 * time.Second) }, "", ""},
	{"SAML-48 clock ahead by 400 s", func(b *bed, a *samltest.Answer) { b.now = b.now.Add(400 * time.Second) }, "saml_expired", "clock"},

	{"SAML-38 no InResponseTo", func(b *bed, a *samltest.Answer) { a.InResponseTo = "" }, "saml_unsolicited", "InResponseTo"},
	{"SAML-38 no InResponseTo in the response", func(b *bed, a *samltest.Answer) { a.Response = edit(".", "InResponseTo", "") }, "saml_unsolicited", "InResponseTo"},
	{"response to another request", func(b *bed, a *samltest.Answer) { a.Response = edit(".", "InResponseTo", "_other") }, "saml_in_response_to", "another request"},
	{"SAML-38 no InResponseTo in the assertion", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "InResponseTo", "")
	}, "saml_unsolicited", "InResponseTo"},
	{"answer to another request", func(b *bed, a *samltest.Answer) { a.InResponseTo = "_other" }, "saml_in_response_to", "another request"},
	{"assertion for another request", func(b *bed, a *samltest.Answer) {
		a.Assertion = edit(".//SubjectConfirmationData", "InResponseTo", "_other")
	}, "saml_in_response_to", "another request"},

	{"no audience", func(b *bed, a *samltest.Answer) { a.Assertion = remove(".//AudienceRestriction") }, "saml_audience", entityID},
	{"audience of another", func(b *bed, a *samltest.Answer) { a.Audience = "https://other.example.test" }, "saml_audience", "for the audience https://other.example.test; this organization's entity ID is " + entityID},
	{"a second restriction without us", func(b *bed, a *samltest.Answer) { a.Assertion = add(".//Conditions", second) }, "saml_audience", "other.example.test"},
	{"another audience in the same restriction", func(b *bed, a *samltest.Answer) {
		a.Assertion = add(".//AudienceRestriction", another)
	}, "", ""},
	{"no conditions", func(b *bed, a *samltest.Answer) { a.Assertion = remove(".//Conditions") }, "saml_audience", "Conditions"},
	{"unknown condition", func(b *bed, a *samltest.Answer) { a.Assertion = add(".//Conditions", condition) }, "saml_structure", "condition"},

	{"another issuer", func(b *bed, a *samltest.Answer) { b.verifier.Issuer = "https://other.example.test" }, "saml_issuer", "other.example.test"},
	{"assertion by another issuer", func(b *bed, a *samltest.Answer) { a.Assertion = retext("Issuer", "https://other.example.test") }, "saml_issuer", "other.example.test"},
	{"assertion without issuer", func(b *bed, a *samltest.Answer) { a.Assertion = remove("Issuer") }, "saml_structure", "Issuer"},
	{"version 1.1", func(b *bed, a *samltest.Answer) { a.Assertion = edit(".", "Version", "1.1") }, "saml_structure", "1.1"},
	{"response of version 1.1", func(b *bed, a *samltest.Answer) { a.Response = edit(".", "Version", "1.1") }, "saml_structure", "1.1"},
	{"no authentication", func(b *bed, a *samltest.Answer) { a.Assertion = remove("AuthnStatement") }, "saml_structure", "AuthnStatement"},
	{"session over", func(b *bed, a *samltest.Answer) { a.SessionEnd = b.now.Add(-time.Second) }, "saml_expired", "session"},
	{"old authentication though a fresh one was asked for", func(b *bed, a *samltest.Answer) {
		b.flow.Fresh = true
		a.Assertion = edit("AuthnStatement", "AuthnInstant", at(b.now.Add(-4*time.Minute)))
	}, "saml_not_fresh", "ForceAuthn"},
	{"fresh authentication", func(b *bed, a *samltest.Answer) { b.flow.Fresh = true }, "", ""},

	{"no subject", func(b *bed, a *samltest.Answer) { a.Assertion = remove("Subject") }, "saml_subject", "no Subject"},
	{"no NameID", func(b *bed, a *samltest.Answer) { a.Assertion = remove(".//NameID") }, "saml_subject", "NameID"},
	{"empty NameID", func(b *bed, a *samltest.Answer) { a.NameID = "" }, "saml_subject", "empty"},
	{"NameID with a line break", func(b *bed, a *samltest.Answer) { a.NameID = "alice\nadmin" }, "saml_subject", "control"},
	{"NameID with a space behind", func(b *bed, a *samltest.Answer) { a.NameID = "alice " }, "saml_subject", "white space"},
	{"NameID of 257 bytes", func(b *bed, a *samltest.Answer) { a.NameID = strings.Repeat("a", 257) }, "saml_subject", "longer"},
	{"transient NameID", func(b *bed, a *samltest.Answer) { a.Format = samltest.Transient }, "saml_subject", "another one at every sign-in"},
	{"NameID without a format", func(b *bed, a *samltest.Answer) { a.Format = "" }, "saml_subject", "(none)"},
	{"NameID of the format that was not asked for", func(b *bed, a *samltest.Answer) {
		b.verifier.NameIDFormat = samltest.Persistent
		a.Format, a.NameID = samltest.EmailAddress, "alice@acme.test"
	}, "saml_subject", "asks for"},
	{"element in the NameID", func(b *bed, a *samltest.Answer) { a.Assertion = add(".//NameID", "<x/>") }, "saml_subject", "NameID"},
	{"a second NameID", func(b *bed, a *samltest.Answer) {
		a.Assertion = add(".//Subject", `<saml:NameID xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">mallory</saml:NameID>`)
	}, "saml_subject", "exactly one"},
	{"attribute without a name", func(b *bed, a *samltest.Answer) { a.Assertion = edit(".//Attribute", "Name", "") }, "saml_structure", "Attribute"},

	{"refusal of the identity provider", func(b *bed, a *samltest.Answer) {
		a.Response = edit(".//StatusCode", "Value", "urn:oasis:names:tc:SAML:2.0:status:Responder")
	}, "saml_status", "Responder"},
	{"no status", func(b *bed, a *samltest.Answer) { a.Response = remove("Status") }, "saml_structure", "Status"},

	{"SAML-22 RSA-SHA1", func(b *bed, a *samltest.Answer) {
		a.Signing = samltest.Signing{Method: "http://www.w3.org/2000/09/xmldsig#rsa-sha1", Hash: crypto.SHA1}
	}, "saml_weak_alg", "rsa-sha1"},
	{"SAML-22 digest with SHA-1", func(b *bed, a *samltest.Answer) {
		a.Signing = samltest.Signing{Digest: "http://www.w3.org/2000/09/xmldsig#sha1"}
	}, "saml_weak_alg", "sha1"},
	{"RSA-SHA512", func(b *bed, a *samltest.Answer) {
		a.Signing = samltest.Signing{Method: "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", Hash: crypto.SHA512, Digest: "http://www.w3.org/2001/04/xmlenc#sha512"}
	}, "", ""},
	{"SAML-23 HMAC", func(b *bed, a *samltest.Answer) {
		a.Signing = samltest.Signing{Method: "http://www.w3.org/2000/09/xmldsig#hmac-sha256", Hash: crypto.SHA256}
	}, "saml_weak_alg", "hmac"},
	{"SAML-23 none", func(b *bed, a *samltest.Answer) {
		a.Signing = samltest.Signing{Method: "none", Hash: crypto.SHA256}
	}, "saml_weak_alg", "none"},
	{"SAML-24 another key, certificate of the same names", func(b *bed, a *samltest.Answer) {
		*b.idp = samltest.Signer{EntityID: issuer, Key: b.other.Key, Certificate: b.other.Certificate}
	}, "saml_signature", "not in the identity provider's descriptor"},
	{"another key, the right certificate", func(b *bed, a *samltest.Answer) { a.Signing.Key = b.other.Key }, "saml_signature", "wrong"},
	{"the right key, another certificate in KeyInfo", func(b *bed, a *samltest.Answer) { a.Signing.Certificate = b.other.Certificate }, "", ""},
	{"the second of two keys", func(b *bed, a *samltest.Answer) {
		b.verifier.Certificates = slices.Insert(b.verifier.Certificates, 0, b.other.Certificate)
	}, "", ""},
	{"certificate expired", func(b *bed, a *samltest.Answer) {
		b.verifier.Certificates[0] = samltest.Certificate(b.t, b.idp.Key, b.now.AddDate(-2, 0, 0), b.now.Add(-time.Second))
	}, "saml_certificate", "expired"},
	{"descriptor expired", func(b *bed, a *samltest.Answer) { b.verifier.ValidUntil = b.now }, "saml_certificate", "valid until"},

	{"SAML-09 two references", func(b *bed, a *samltest.Answer) {
		a.Signing.Info = func(info *etree.Element) {
			other := info.SelectElement("Reference").Copy()
			other.CreateAttr("URI", "#_other")
			info.AddChild(other)
		}
	}, "saml_reference_count", "2 elements"},
	{"no reference", func(b *bed, a *samltest.Answer) { a.Signing.Info = remove("Reference") }, "saml_reference_count", "0 elements"},
	{"reference to the document", func(b *bed, a *samltest.Answer) { a.Signing.Info = edit("Reference", "URI", "") }, "saml_signature", "refer"},
	{"transform with comments", func(b *bed, a *samltest.Answer) {
		a.Signing.Info = edit(".//Transform[2]", "Algorithm", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments")
	}, "saml_signature", "transforms"},
	{"canonicalization with comments", func(b *bed, a *samltest.Answer) {
		a.Signing.Info = edit("CanonicalizationMethod", "Algorithm", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments")
	}, "saml_signature", "canonicalized"},
	{"XSLT", func(b *bed, a *samltest.Answer) {
		a.Signing.Info = edit(".//Transform[2]", "Algorithm", "http://www.w3.org/TR/1999/REC-xslt-19991116")
	}, "saml_signature", "transforms"},
	{"XPath in a transform", func(b *bed, a *samltest.Answer) {
		a.Signing.Info = add(".//Transform[1]", `<ds:XPath xmlns:ds="http://www.w3.org/2000/09/xmldsig#">//*</ds:XPath>`)
	}, "saml_signature", "transforms"},
	{"length of an HMAC", func(b *bed, a *samltest.Answer) {
		a.Signing.Info = add("SignatureMethod", `<ds:HMACOutputLength xmlns:ds="http://www.w3.org/2000/09/xmldsig#">1</ds:HMACOutputLength>`)
	}, "saml_weak_alg", "algorithm"},
	{"SAML-16 digest with white space", func(b *bed, a *samltest.Answer) {
		a.Signing.Info = func(info *etree.Element) {
			v := info.FindElement(".//DigestValue")
			v.SetText("\n" + v.Text() + "\n")
		}
	}, "saml_signature", "digest"},
	{"SAML-16 element in the digest", func(b *bed, a *samltest.Answer) { a.Signing.Info = add(".//DigestValue", "<x/>") }, "saml_signature", "digest"},
}

func TestSigned(t *testing.T) {
	for _, layout := range layouts {
		for _, c := range said {
			t.Run(layout+"/"+c.name, func(t *testing.T) {
				b := newBed(t)
				a := b.answer(layout)
				c.change(b, &a)
				x, refusal := b.verify(b.idp.Response(t, a))
				check(t, x, refusal, c.reason, c.detail)
			})
		}
	}
}

func check(t *testing.T, x identity.External, refusal *identity.Refusal, reason, detail string) {
	t.Helper()
	switch {
	case refusal == nil && reason == "":
		if x.Subject == "" {
			t.Error("accepted nobody")
		}
	case refusal == nil:
		t.Fatalf("accepted as %q, %s expected", x.Subject, reason)
	case refusal.Reason != reason || !strings.Contains(refusal.Detail, detail):
		t.Fatalf("refused: %s, %s; %s and %q expected", refusal.Reason, refusal.Detail, reason, detail)
	case x.Subject != "" || x.Once != nil:
		t.Errorf("refused, and yet %+v", x)
	}
	if refusal != nil {
		if strings.ContainsAny(refusal.Detail, "<>\n") || len(refusal.Detail) > 1000 || refusal.Claimed.Connector == "" {
			t.Errorf("detail %q", refusal.Detail)
		}
		if got := refusal.Unwrap().Error(); got != "the sign-in did not work" {
			t.Errorf("the client is told %q", got)
		}
	}
}

// damaged are genuine answers that somebody has changed on the way.
var damaged = []struct {
	name   string
	change func(raw string) string
	reason string // and after a colon a part of the detail
}{
	{"nothing", func(raw string) string { return raw }, ""},
	{"SAML-10 double colon", before("<saml:Issuer", "<x::y/>"), "saml_structure"},
	{"SAML-10 xmlns for xmlns", once(" Version=", ` xmlns:xmlns="urn:x" Version=`), "saml_structure"},
	{"SAML-10 attribute with an empty prefix", once(" Version=", ` :a="b" Version=`), "saml_structure"},
	{"SAML-10 prefix of no namespace", once(" Version=", ` xmlns:a="" a:b="y" Version=`), "saml_structure"},
	{"the same attribute twice", once(" Version=", ` Version="2.0" Version=`), "saml_structure"},
	{"SAML-12 comment in the NameID", once(">alice<", ">alice@acme.test<!---->.evil.test<"), "saml_comment"},
	{"comment elsewhere", before("<saml:Issuer", "<!-- x -->"), "saml_comment"},
	{"CDATA", once(">alice<", "><![CDATA[alice]]><"), "saml_cdata"},
	{"processing instruction", before("<saml:Issuer", "<?x y?>"), "saml_instruction"},
	{"declaration", prefix(`<?xml version="1.0" encoding="UTF-8"?>` + "\n"), ""},
	{"declaration of another encoding", prefix(`<?xml version="1.0" encoding="ISO-8859-1"?>`), "saml_structure"},
	{"declaration behind a space", prefix(` <?xml version="1.0"?>`), "saml_instruction"},
	{"SAML-15 two SignedInfo", twice("<ds:SignedInfo>", "</ds:SignedInfo>"), "saml_signature:exactly one SignedInfo"},
	{"two SignatureValue", twice("<ds:SignatureValue>", "</ds:SignatureValue>"), "saml_signature:exactly one SignedInfo"},
	{"SAML-16 character reference in the digest", once("<ds:DigestValue>", "<ds:DigestValue>&#10;"), "saml_signature:character reference"},
	{"SAML-16 character reference in the signature", once("<ds:SignatureValue>", "<ds:SignatureValue>&#10;"), "saml_signature:character reference"},
	{"SAML-16 space in the signature", once("<ds:SignatureValue>", "<ds:SignatureValue> "), "saml_signature:value is not base64"},
	{"line breaks in the signature", once("<ds:SignatureValue>", "<ds:SignatureValue>\n"), ""},
	{"SAML-17 two roots", func(raw string) string { return raw + raw }, "saml_structure"},
	{"SAML-17 text behind", func(raw string) string { return raw + "x" }, "saml_structure"},
	{"SAML-17 text before", prefix("\ufeffx"), "saml_structure"},
	{"white space behind", func(raw string) string { return raw + "\n" }, ""},
	{"SAML-20 no signature", cut("<ds:Signature ", "</ds:Signature>"), "saml_signature"},
	{"SAML-20 signature of another namespace", all(`xmlns:ds="http://www.w3.org/2000/09/xmldsig#"`, `xmlns:ds="urn:x"`), "saml_structure"},
	{"SAML-20 empty signature", blank("<ds:SignatureValue>", "</ds:SignatureValue>"), "saml_signature:value is not base64"},
	{"SAML-20 signature of another document", value("<ds:SignatureValue>", "</ds:SignatureValue>", base64.StdEncoding.EncodeToString(make([]byte, 256))), "saml_signature"},
	{"another NameID", once(">alice<", ">mallory<"), "saml_signature"},
	{"SAML-35 billion laughs", prefix(`<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>`), "saml_doctype"},
	{"SAML-35 external entity", prefix(`<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>`), "saml_doctype"},
	{"SAML-35 parameter entity", prefix(`<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1/x"> %a;]>`), "saml_doctype"},
	{"SAML-35 SYSTEM that nobody uses", prefix(`<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd">`), "saml_doctype"},
	{"undeclared entity", once(">alice<", ">&alice;<"), "saml_structure"},
	{"not UTF-8", once(">alice<", ">alic\xe9<"), "saml_structure"},
	{"end without a beginning", once("</saml:Subject>", "</saml:subject>"), "saml_structure"},
	{"not closed", func(raw string) string { return strings.TrimSuffix(raw, "</samlp:Response>") }, "saml_structure"},
	{"object in the signature", once("</ds:SignedInfo>", "</ds:SignedInfo><ds:Object/>"), "saml_signature:exactly one SignedInfo"},
	{"a second ID, by another spelling", once(`<saml:Subject>`, `<saml:Subject Id="">`), "saml_structure"},
	{"prefix without a namespace", all(` xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"`, ""), "saml_structure"},
	{"a logout request", all("samlp:Response", "samlp:LogoutRequest"), "saml_structure"},
}

func once(from, to string) func(string) string {
	return func(raw string) string { return strings.Replace(raw, from, to, 1) }
}

func all(from, to string) func(string) string {
	return func(raw string) string { return strings.ReplaceAll(raw, from, to) }
}

func before(place, what string) func(string) string { return once(place, what+place) }

func prefix(what string) func(string) string { return func(raw string) string { return what + raw } }

func between(begin, end string, change func(inner string) string) func(string) string {
	return func(raw string) string {
		i := strings.Index(raw, begin) + len(begin)
		j := i + strings.Index(raw[i:], end)
		return raw[:i] + change(raw[i:j]) + raw[j:]
	}
}

func blank(begin, end string) func(string) string { return value(begin, end, "") }

func value(begin, end, to string) func(string) string {
	return between(begin, end, func(string) string { return to })
}

func twice(begin, end string) func(string) string {
	return between(begin, end, func(inner string) string { return inner + end + begin + inner })
}

// cut removes every such element.
func cut(begin, end string) func(string) string {
	return func(raw string) string {
		for strings.Contains(raw, begin) {
			i := strings.Index(raw, begin)
			raw = raw[:i] + raw[i+strings.Index(raw[i:], end)+len(end):]
		}
		return raw
	}
}

func TestDamaged(t *testing.T) {
	for _, layout := range layouts {
		for _, c := range damaged {
			t.Run(layout+"/"+c.name, func(t *testing.T) {
				b := newBed(t)
				raw := text(t, b.idp.Document(t, b.answer(layout)))
				sent := c.change(raw)
				if sent == raw && c.name != "nothing" {
					t.Fatal("nothing was changed")
				}
				x, refusal := b.verifyXML(sent)
				reason, detail, _ := strings.Cut(c.reason, ":")
				check(t, x, refusal, reason, detail)
			})
		}
	}
}

// SAML-21: only the inner or the outer signature is left, or taken from another answer.
func TestSignatureTakenAway(t *testing.T) {
	b := newBed(t)
	d := b.idp.Document(t, b.answer("both"))
	d.Root().RemoveChild(d.Root().SelectElement("Signature"))
	if x, refusal := b.verify(samltest.Encode(t, d)); refusal != nil || x.Subject != "alice" {
		t.Errorf("the assertion's signature alone: %+v", refusal)
	}
	retext(".//NameID", "mallory")(d.Root())
	_, refusal := b.verify(samltest.Encode(t, d))
	check(t, identity.External{}, refusal, "saml_signature", "wrong")

	d = b.idp.Document(t, b.answer("response"))
	d.Root().RemoveChild(d.Root().SelectElement("Signature"))
	_, refusal = b.verify(samltest.Encode(t, d))
	check(t, identity.External{}, refusal, "saml_signature", "neither")

	// Both signatures count: a good one does not make up for a bad one.
	d = b.idp.Document(t, b.answer("both"))
	edit(".", "Destination", acs+"?")(d.Root())
	_, refusal = b.verify(samltest.Encode(t, d))
	check(t, identity.External{}, refusal, "saml_signature", "wrong")
}

// SAML-23: the key of an HMAC would be the certificate, which everybody has.
func TestForgedHMAC(t *testing.T) {
	b := newBed(t)
	a := b.answer("assertion")
	a.Signing = samltest.Signing{Method: "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", Hash: crypto.SHA256}
	raw := text(t, b.idp.Document(t, a))
	mac := hmac.New(sha256.New, b.idp.Certificate.Raw)
	mac.Write([]byte(raw))
	_, refusal := b.verifyXML(value("<ds:SignatureValue>", "</ds:SignatureValue>", base64.StdEncoding.EncodeToString(mac.Sum(nil)))(raw))
	check(t, identity.External{}, refusal, "saml_weak_alg", "hmac")
}

// What stands around a signed assertion is anybody's: it must not confuse, either.
func TestAroundTheAssertion(t *testing.T) {
	for name, c := range map[string]struct {
		change         func(response *etree.Element)
		reason, detail string
	}{
		"an ID twice": {func(r *etree.Element) {
			r.CreateElement("samlp:Extensions").CreateAttr("Id", r.SelectElement("Assertion").SelectAttrValue("ID", ""))
		}, "saml_structure", "unique"},
		"two IDs on one element": {func(r *etree.Element) {
			r.CreateElement("samlp:Extensions").CreateAttr("ID", "a")
			r.CreateAttr("id", "b")
		}, "saml_structure", "unique"},
		"too many elements": {func(r *etree.Element) {
			for range 2000 {
				r.CreateElement("samlp:Extensions")
			}
		}, "saml_too_large", "2000"},
		"too deep": {func(r *etree.Element) {
			for range 64 {
				r = r.CreateElement("samlp:Extensions")
			}
		}, "saml_too_large", "64"},
		"too many attributes": {func(r *etree.Element) {
			e := r.CreateElement("samlp:Extensions")
			for i := range 65 {
				e.CreateAttr(fmt.Sprintf("a%d", i), "")
			}
		}, "saml_too_large", "64"},
		"too large": {func(r *etree.Element) {
			r.CreateElement("samlp:Extensions").SetText(strings.Repeat("x", 200<<10))
		}, "saml_too_large", "256 KiB"},
		"all that is allowed": {func(r *etree.Element) {
			e := r.CreateElement("samlp:Extensions")
			e.SetText(strings.Repeat("x", 150<<10))
			for range 62 {
				e = e.CreateElement("samlp:Extensions")
			}
			for i := range 64 {
				e.CreateAttr(fmt.Sprintf("a%d", i), "")
			}
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			d := b.idp.Document(t, b.answer("assertion"))
			c.change(d.Root())
			x, refusal := b.verify(samltest.Encode(t, d))
			check(t, x, refusal, c.reason, c.detail)
		})
	}
}

// A signature stands after the Issuer, as the schema has it, and nowhere else.
func TestPlaceOfSignatures(t *testing.T) {
	for _, layout := range layouts {
		b := newBed(t)
		d := b.idp.Document(t, b.answer(layout))
		for _, signature := range d.FindElements("//Signature") {
			signature.Parent().AddChild(signature)
		}
		x, refusal := b.verify(samltest.Encode(t, d))
		check(t, x, refusal, "saml_structure", "after the Issuer")
	}
}

// Base64 that is sloppy at its end is two spellings of the same.
func TestSloppyBase64(t *testing.T) {
	b := newBed(t)
	raw := text(t, b.idp.Document(t, b.answer("both")))
	for len(raw)%3 != 1 {
		raw += "\n"
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(raw))
	at := len(encoded) - 3
	sloppy := encoded[:at] + string(encoded[at]+1) + encoded[at+1:]
	if again, err := base64.StdEncoding.DecodeString(sloppy); err != nil || string(again) != raw {
		t.Fatal("not another spelling")
	}
	x, refusal := b.verify(sloppy)
	check(t, x, refusal, "saml_encoding", "")
}

// The scan by itself: what the readers after it would have refused as well.
func TestScan(t *testing.T) {
	for text, reason := range map[string]string{
		`<a><b></b></a>`:                      "",
		`<a><b></c></a>`:                      "saml_structure",
		`<a></a></a>`:                         "saml_structure",
		`<a>`:                                 "saml_structure",
		``:                                    "saml_structure",
		`<a/><b/>`:                            "saml_structure",
		`<a b="1" b="2"/>`:                    "saml_structure",
		`<p:a/>`:                              "saml_structure",
		`<a p:b=""/>`:                         "saml_structure",
		`<p:a xmlns:p="u"><p:b/></p:a>`:       "",
		`<a><p:b xmlns:p="u"/><p:c/></a>`:     "saml_structure",
		`<a xmlns:p="u"><b p:c=""/></a>`:      "",
		`<a xmlns:xml="u"/>`:                  "saml_structure",
		`<a xml:lang="en"/>`:                  "",
		`<xmlns:a/>`:                          "saml_structure",
		`<a><?b c?></a>`:                      "saml_instruction",
		"<a>\xff</a>":                         "saml_structure",
		"<a b='\xff'/>":                       "saml_structure",
		"<a\xff/>":                            "saml_structure",
		`<a>&b;</a>`:                          "saml_structure",
		`<` + strings.Repeat("a", 257) + `/>`: "saml_structure",
	} {
		err := saml.Scan([]byte(text))
		if reason == "" && err != nil || reason != "" && (err == nil || !strings.HasPrefix(err.Error(), reason+":")) {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

// SAML-28: who signs the response says whom it is for.
func TestMissingDestination(t *testing.T) {
	for layout, reason := range map[string]string{"response": "saml_destination", "both": "saml_destination", "assertion": ""} {
		b := newBed(t)
		a := b.answer(layout)
		a.Response = edit(".", "Destination", "")
		x, refusal := b.verify(b.idp.Response(t, a))
		check(t, x, refusal, reason, "")
	}
}

// SAML-38 and SAML-43: what belongs to the flow.
func TestForm(t *testing.T) {
	b := newBed(t)
	good := b.idp.Response(t, b.answer("both"))
	unasked := b.answer("both")
	unasked.InResponseTo = ""
	alone := b.idp.Response(t, unasked)
	for name, c := range map[string]struct {
		form   url.Values
		flow   identity.Flow
		opened bool
		reason string
	}{
		"right":                        {url.Values{"SAMLResponse": {good}, "RelayState": {state}}, b.flow, false, ""},
		"no response":                  {url.Values{"RelayState": {state}}, b.flow, false, "saml_structure"},
		"two responses":                {url.Values{"SAMLResponse": {good, good}, "RelayState": {state}}, b.flow, false, "saml_structure"},
		"two relay states":             {url.Values{"SAMLResponse": {good}, "RelayState": {state, "x"}}, b.flow, false, "saml_structure"},
		"no relay state":               {url.Values{"SAMLResponse": {good}}, b.flow, false, "saml_unsolicited"},
		"another relay state":          {url.Values{"SAMLResponse": {good}, "RelayState": {"x" + state}}, b.flow, false, "saml_unsolicited"},
		"no flow":                      {url.Values{"SAMLResponse": {alone}}, identity.Flow{}, false, "saml_unsolicited"},
		"no flow, allowed":             {url.Values{"SAMLResponse": {alone}}, identity.Flow{}, true, ""},
		"no flow, allowed, empty":      {url.Values{"SAMLResponse": {alone}, "RelayState": {""}}, identity.Flow{}, true, ""},
		"no flow, allowed, cli":        {url.Values{"SAMLResponse": {alone}, "RelayState": {"cli"}}, identity.Flow{}, true, ""},
		"no flow, allowed, an address": {url.Values{"SAMLResponse": {alone}, "RelayState": {"https://evil.example.test"}}, identity.Flow{}, true, "saml_unsolicited"},
		"no flow, allowed, a path":     {url.Values{"SAMLResponse": {alone}, "RelayState": {`/\evil`}}, identity.Flow{}, true, "saml_unsolicited"},
		"no flow, allowed, 100 KB":     {url.Values{"SAMLResponse": {alone}, "RelayState": {strings.Repeat("a", 100<<10)}}, identity.Flow{}, true, "saml_unsolicited"},
		"no flow, allowed, an answer":  {url.Values{"SAMLResponse": {good}}, identity.Flow{}, true, "saml_in_response_to"},
		"flow without a state":         {url.Values{"SAMLResponse": {good}, "RelayState": {""}}, identity.Flow{Request: request}, true, "saml_unsolicited"},
		"not base64":                   {url.Values{"SAMLResponse": {"<x/>"}, "RelayState": {state}}, b.flow, false, "saml_encoding"},
		"base64 with spaces":           {url.Values{"SAMLResponse": {good[:8] + " " + good[8:]}, "RelayState": {state}}, b.flow, false, "saml_encoding"},
		"base64 of URLs":               {url.Values{"SAMLResponse": {strings.NewReplacer("+", "-", "/", "_").Replace(good) + "-_"}, "RelayState": {state}}, b.flow, false, "saml_encoding"},
		"base64 in lines":              {url.Values{"SAMLResponse": {good[:76] + "\r\n" + good[76:]}, "RelayState": {state}}, b.flow, false, ""},
		"empty":                        {url.Values{"SAMLResponse": {""}, "RelayState": {state}}, b.flow, false, "saml_encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			b.verifier.IdPInitiated = c.opened
			x, refusal := b.verifier.Verify(c.form, c.flow, b.now)
			check(t, x, refusal, c.reason, "")
		})
	}
}
