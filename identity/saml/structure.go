package saml

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/beevik/etree"
)

// The namespaces of a response.
const (
	protocolNS  = "urn:oasis:names:tc:SAML:2.0:protocol"
	assertionNS = "urn:oasis:names:tc:SAML:2.0:assertion"
	signatureNS = "http://www.w3.org/2000/09/xmldsig#"
	exclusiveNS = "http://www.w3.org/2001/10/xml-exc-c14n#"
)

// message is a response whose shape has been examined. Nothing in it is to be believed
// yet.
type message struct {
	response           *etree.Element
	responseSignature  *etree.Element // nil: the response as a whole is not signed
	assertion          *etree.Element // nil when it is encrypted
	assertionSignature *etree.Element
	encrypted          *etree.Element
}

// examine finds the parts of a response and sees to it that there is no second one of
// any of them, wherever it is: every known signature wrapping attack needs one.
func examine(root *etree.Element) (message, error) {
	m := message{response: root}
	if !is(root, protocolNS, "Response") {
		return m, refuse("saml_structure", "the identity provider sent a %s and not a SAML 2.0 Response", root.Tag)
	}
	if err := succeeded(root); err != nil {
		return m, err
	}
	if err := singular(root); err != nil {
		return m, err
	}
	for _, child := range root.ChildElements() {
		switch {
		case is(child, assertionNS, "Assertion"):
			m.assertion = child
		case is(child, assertionNS, "EncryptedAssertion"):
			m.encrypted = child
		}
	}
	if (m.assertion == nil) == (m.encrypted == nil) {
		return m, refuse("saml_structure", "the response has not exactly one assertion")
	}
	var err error
	if m.responseSignature, err = signatureOf(root); err != nil {
		return m, err
	}
	if m.assertion != nil {
		m.assertionSignature, err = signatureOf(m.assertion)
	}
	return m, err
}

// succeeded returns why the identity provider says that nobody has signed in.
func succeeded(response *etree.Element) error {
	status, err := only(response, protocolNS, "Status")
	if err != nil {
		return err
	}
	code, err := only(status, protocolNS, "StatusCode")
	if err != nil {
		return err
	}
	const prefix = "urn:oasis:names:tc:SAML:2.0:status:"
	value := attribute(code, "Value")
	if value == prefix+"Success" {
		return nil
	}
	said := strings.TrimPrefix(value, prefix)
	if nested := children(code, protocolNS, "StatusCode"); len(nested) > 0 {
		said += ", " + strings.TrimPrefix(attribute(nested[0], "Value"), prefix)
	}
	if messages := children(status, protocolNS, "StatusMessage"); len(messages) > 0 {
		if text, ok := text(messages[0]); ok && strings.TrimSpace(text) != "" {
			said += ": " + strings.TrimSpace(text)
		}
	}
	return refuse("saml_status", "the identity provider answered %q", said)
}

// singular checks what holds for a whole document: elements that matter stand where
// they belong, in their namespace, and IDs are unique however they are spelled.
// Namespaces are not asked for first: a reader that ignores them must find no more.
func singular(root *etree.Element) error {
	ids := make(map[string]bool)
	return walk(root, func(e *etree.Element) error {
		var placed bool
		switch parent := e.Parent(); e.Tag {
		case "Response":
			placed = e == root
		case "Assertion":
			placed = is(e, assertionNS, "Assertion") && (e == root || parent == root && root.Tag == "Response")
		case "EncryptedAssertion":
			placed = is(e, assertionNS, "EncryptedAssertion") && parent == root && root.Tag == "Response"
		case "Signature":
			placed = is(e, signatureNS, "Signature") && (parent == root || parent.Parent() == root && is(parent, assertionNS, "Assertion"))
		case "SignedInfo", "SignatureValue":
			placed = is(e, signatureNS, e.Tag) && is(parent, signatureNS, "Signature")
		case "Reference":
			placed = is(e, signatureNS, e.Tag) && is(parent, signatureNS, "SignedInfo")
		default:
			placed = true
		}
		if !placed {
			return refuse("saml_structure", "the response has a %s where none belongs", e.Tag)
		}
		own := 0
		for _, a := range e.Attr {
			if a.Space == "xmlns" || !strings.EqualFold(a.Key, "id") {
				continue
			}
			if own++; own > 1 || a.Value == "" || ids[a.Value] {
				return refuse("saml_structure", "the response has an ID that is empty or not unique")
			}
			ids[a.Value] = true
		}
		if counted := e.Tag == "Assertion" || e.Tag == "EncryptedAssertion"; counted && e != root && sibling(e, root) {
			return refuse("saml_structure", "the response has more than one assertion")
		}
		return nil
	})
}

// sibling reports whether an assertion before e is a child of root too.
func sibling(e, root *etree.Element) bool {
	for _, child := range root.ChildElements() {
		if child == e {
			return false
		}
		if child.Tag == "Assertion" || child.Tag == "EncryptedAssertion" {
			return true
		}
	}
	return false
}

// signatureOf returns the signature of a response or assertion, nil without one, after
// it has made sure that it can only be read one way: it signs its parent, all of it,
// and nothing else.
func signatureOf(parent *etree.Element) (*etree.Element, error) {
	found := children(parent, signatureNS, "Signature")
	if len(found) == 0 {
		return nil, nil
	}
	signature, at := found[0], slices.Index(parent.ChildElements(), found[0])
	// saml-schema-protocol-2.0 and saml-schema-assertion-2.0: after the Issuer.
	if len(found) > 1 || at > 1 || at == 1 && !is(parent.ChildElements()[0], assertionNS, "Issuer") {
		return nil, refuse("saml_structure", "a signature does not stand after the Issuer")
	}
	id := attribute(parent, "ID")
	if id == "" || len(id) > 256 {
		return nil, refuse("saml_structure", "what is signed has no ID")
	}
	parts := signature.ChildElements()
	if len(parts) == 3 && is(parts[2], signatureNS, "KeyInfo") {
		parts = parts[:2]
	}
	if len(parts) != 2 || !is(parts[0], signatureNS, "SignedInfo") || !is(parts[1], signatureNS, "SignatureValue") {
		return nil, refuse("saml_signature", "a signature has not exactly one SignedInfo and one SignatureValue")
	}
	if value, ok := text(parts[1]); !ok || !isBase64(strings.NewReplacer("\r", "", "\n", "").Replace(value)) {
		return nil, refuse("saml_signature", "a signature's value is not base64")
	}
	return signature, checkSignedInfo(parts[0], id)
}

func checkSignedInfo(info *etree.Element, id string) error {
	parts := info.ChildElements()
	if n := len(children(info, signatureNS, "Reference")); n != 1 {
		return refuse("saml_reference_count", "a signature refers to %d elements and not to one", n)
	}
	if len(parts) != 3 || !is(parts[0], signatureNS, "CanonicalizationMethod") || !is(parts[1], signatureNS, "SignatureMethod") || !is(parts[2], signatureNS, "Reference") {
		return refuse("saml_signature", "a signature's SignedInfo is not of the form that SAML asks for")
	}
	if attribute(parts[0], "Algorithm") != exclusiveNS || !inclusive(parts[0]) {
		return refuse("saml_signature", "a signature is not canonicalized with exclusive canonicalization without comments")
	}
	if algorithm := attribute(parts[1], "Algorithm"); !slices.Contains(signatureMethods, algorithm) || len(parts[1].ChildElements()) > 0 {
		return refuse("saml_weak_alg", "the signature algorithm is %s: let the identity provider sign with RSA-SHA256", algorithm)
	}
	return checkReference(parts[2], id)
}

func checkReference(reference *etree.Element, id string) error {
	parts := reference.ChildElements()
	if len(parts) != 3 || !is(parts[0], signatureNS, "Transforms") || !is(parts[1], signatureNS, "DigestMethod") || !is(parts[2], signatureNS, "DigestValue") {
		return refuse("saml_signature", "a signature's Reference is not of the form that SAML asks for")
	}
	if attribute(reference, "URI") != "#"+id {
		return refuse("saml_signature", "a signature does not refer to the element that it stands in")
	}
	transforms := parts[0].ChildElements()
	if len(transforms) != 2 || !is(transforms[0], signatureNS, "Transform") || !is(transforms[1], signatureNS, "Transform") ||
		attribute(transforms[0], "Algorithm") != signatureNS+"enveloped-signature" || len(transforms[0].ChildElements()) > 0 ||
		attribute(transforms[1], "Algorithm") != exclusiveNS || !inclusive(transforms[1]) {
		return refuse("saml_signature", "a signature has other transforms than enveloped-signature and exclusive canonicalization (SAML core §5.4.4)")
	}
	if algorithm := attribute(parts[1], "Algorithm"); !slices.Contains(digestMethods, algorithm) || len(parts[1].ChildElements()) > 0 {
		return refuse("saml_weak_alg", "the digest algorithm is %s: let the identity provider use SHA-256", algorithm)
	}
	if value, ok := text(parts[2]); !ok || !isBase64(value) {
		return refuse("saml_signature", "a digest is not base64")
	}
	return nil
}

// inclusive reports whether e has at most the one child that exclusive
// canonicalization knows.
func inclusive(e *etree.Element) bool {
	parts := e.ChildElements()
	return len(parts) == 0 || len(parts) == 1 && is(parts[0], exclusiveNS, "InclusiveNamespaces") && len(parts[0].ChildElements()) == 0
}

func isBase64(s string) bool {
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return false
	}
	_, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil
}

// walk calls visit for e and everything below it, until it fails.
func walk(e *etree.Element, visit func(*etree.Element) error) error {
	if err := visit(e); err != nil {
		return err
	}
	for _, child := range e.ChildElements() {
		if err := walk(child, visit); err != nil {
			return err
		}
	}
	return nil
}

func is(e *etree.Element, namespace, tag string) bool {
	return e != nil && e.Tag == tag && e.NamespaceURI() == namespace
}

// children returns the children of a name.
func children(e *etree.Element, namespace, tag string) []*etree.Element {
	var found []*etree.Element
	for _, child := range e.ChildElements() {
		if is(child, namespace, tag) {
			found = append(found, child)
		}
	}
	return found
}

// only returns the one child of a name.
func only(e *etree.Element, namespace, tag string) (*etree.Element, error) {
	found := children(e, namespace, tag)
	if len(found) != 1 {
		return nil, refuse("saml_structure", "there is not exactly one %s in the %s", tag, e.Tag)
	}
	return found[0], nil
}

// attribute returns the value of an attribute without a namespace, "" without it.
func attribute(e *etree.Element, key string) string {
	for _, a := range e.Attr {
		if a.Space == "" && a.Key == key {
			return a.Value
		}
	}
	return ""
}

// text returns the text of an element that has nothing else in it.
func text(e *etree.Element) (string, bool) {
	var b strings.Builder
	for _, child := range e.Child {
		data, ok := child.(*etree.CharData)
		if !ok {
			return "", false
		}
		b.WriteString(data.Data)
	}
	return b.String(), true
}
