package saml

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"strings"
	"time"
	"unicode"

	"github.com/beevik/etree"
	crewjam "github.com/crewjam/saml"

	"github.com/ipuka/ipuka/identity"
)

// The formats of a NameID that stay with a person.
const (
	Persistent   = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
	EmailAddress = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
)

const bearer = "urn:oasis:names:tc:SAML:2.0:cm:bearer" //nolint:gosec // the name of a method, no credential

// maxSubject bounds a NameID, in bytes (SAML core §8.3.7 has 256 characters).
const maxSubject = 256

// check judges what has been believed: whether it says the right things to us now
// (SAML profiles §4.1.4.3).
type check struct {
	verifier
	flow identity.Flow
	now  time.Time
}

// response judges the outer message. As long as it is not signed, what it says can only
// harm the sign-in.
func (c check) response(e *etree.Element, signed bool) error {
	if err := c.header(e); err != nil {
		return err
	}
	if issuers := children(e, assertionNS, "Issuer"); len(issuers) > 0 {
		if err := c.issuedBy(e); err != nil {
			return err
		}
	}
	destination := attribute(e, "Destination")
	if destination != c.acs && (signed || destination != "") {
		return refuse("saml_destination", "the response is for %s; this organization's assertion consumer service is %s", orNone(destination), c.acs)
	}
	return c.inResponseTo(attribute(e, "InResponseTo"))
}

// header judges what a response and an assertion both have.
func (c check) header(e *etree.Element) error {
	if version := attribute(e, "Version"); version != "2.0" {
		return refuse("saml_structure", "the version of the %s is %s and not 2.0", e.Tag, orNone(version))
	}
	issued, err := instant(e, "IssueInstant")
	switch {
	case err != nil:
		return err
	case issued.IsZero():
		return refuse("saml_structure", "the %s has no IssueInstant", e.Tag)
	case issued.After(c.now.Add(maxAhead)):
		return refuse("saml_not_yet", "the response was issued at %s, and it is %s here: check the clock of the identity provider", date(issued), date(c.now))
	case issued.Before(c.now.Add(-maxAge)):
		return refuse("saml_expired", "the response was issued at %s, and it is %s here: check the clocks, or the user waited for too long", date(issued), date(c.now))
	}
	return nil
}

func (c check) issuedBy(e *etree.Element) error {
	issuer, err := only(e, assertionNS, "Issuer")
	if err != nil {
		return err
	}
	if value, ok := text(issuer); !ok || strings.TrimSpace(value) != c.issuer {
		return refuse("saml_issuer", "the response is from %s; this organization's identity provider is %s", orNone(strings.TrimSpace(value)), c.issuer)
	}
	return nil
}

func (c check) inResponseTo(id string) error {
	switch id {
	case c.flow.Request:
		return nil
	case "":
		return refuse("saml_unsolicited", "the response does not say which request it answers (InResponseTo)")
	}
	return refuse("saml_in_response_to", "the response answers another request than the one that this browser was sent with")
}

// assertion judges the assertion, and returns who it is about.
func (c check) assertion(e *etree.Element) (identity.External, error) {
	var x identity.External
	if err := c.header(e); err != nil {
		return x, err
	}
	if err := c.issuedBy(e); err != nil {
		return x, err
	}
	subject, err := only(e, assertionNS, "Subject")
	if err != nil {
		return x, refuse("saml_subject", "the assertion has no Subject")
	}
	nameID, format, err := c.subject(subject)
	if err != nil {
		return x, err
	}
	if err := agree(e, nameID); err != nil {
		return x, err
	}
	confirmed, err := c.confirmation(subject)
	if err != nil {
		return x, err
	}
	conditions, err := c.conditions(e)
	if err != nil {
		return x, err
	}
	session, err := c.authentication(e)
	if err != nil {
		return x, err
	}
	said, err := statements(e)
	if err != nil {
		return x, err
	}
	x = c.external(nameID, format, said)
	x.Expires = session
	x.Once = c.once(e, later(confirmed, conditions))
	return x, nil
}

// subject returns the NameID.
func (c check) subject(subject *etree.Element) (value, format string, err error) {
	nameID, err := only(subject, assertionNS, "NameID")
	if err != nil {
		return "", "", refuse("saml_subject", "the assertion has not exactly one NameID that can be read; encrypted ones are not supported")
	}
	value, ok := text(nameID)
	if !ok || value == "" || len(value) > maxSubject || value != strings.TrimSpace(value) || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return "", "", refuse("saml_subject", "the NameID is empty, longer than %d bytes or has white space or control characters around or in it", maxSubject)
	}
	format = attribute(nameID, "Format")
	switch {
	case strings.HasSuffix(format, ":transient"):
		return "", "", refuse("saml_subject", "the NameID is transient, another one at every sign-in: let the identity provider send a persistent one or the email address")
	case format != Persistent && format != EmailAddress:
		return "", "", refuse("saml_subject", "the format of the NameID is %s: let the identity provider send %s or %s", orNone(format), Persistent, EmailAddress)
	case c.nameIDFormat != "" && format != c.nameIDFormat:
		// The same text in two formats can be two people.
		return "", "", refuse("saml_subject", "the format of the NameID is %s; this organization asks for %s", format, c.nameIDFormat)
	}
	return value, format, nil
}

// agree reads the assertion once more, the way of encoding/xml. Two readers that do
// not see the same person are how signatures have been passed by before.
func agree(e *etree.Element, nameID string) error {
	document := etree.NewDocumentWithRoot(bareCopy(e))
	raw, err := document.WriteToBytes()
	if err != nil {
		return refuse("saml_structure", "the assertion could not be read")
	}
	var other crewjam.Assertion
	err = xml.Unmarshal(raw, &other) //nolint:gosec // a small document, signed by the identity provider
	if err != nil || other.Subject == nil || other.Subject.NameID == nil || other.Subject.NameID.Value != nameID {
		return refuse("saml_structure", "the assertion is not read the same way by everybody")
	}
	return nil
}

// confirmation returns until when the assertion may be used: one bearer confirmation at
// least must fit, and fit in everything.
func (c check) confirmation(subject *etree.Element) (time.Time, error) {
	err := refuse("saml_recipient", "the assertion has no bearer SubjectConfirmation")
	for _, e := range children(subject, assertionNS, "SubjectConfirmation") {
		if attribute(e, "Method") != bearer {
			continue
		}
		var until time.Time
		if until, err = c.confirmed(e); err == nil {
			return until, nil
		}
	}
	return time.Time{}, err
}

func (c check) confirmed(e *etree.Element) (time.Time, error) {
	data, err := only(e, assertionNS, "SubjectConfirmationData")
	if err != nil {
		return time.Time{}, refuse("saml_recipient", "the assertion's SubjectConfirmation has no data")
	}
	if recipient := attribute(data, "Recipient"); recipient != c.acs {
		return time.Time{}, refuse("saml_recipient", "the assertion is for the recipient %s; this organization's assertion consumer service is %s", orNone(recipient), c.acs)
	}
	if err := c.inResponseTo(attribute(data, "InResponseTo")); err != nil {
		return time.Time{}, err
	}
	if attribute(data, "NotBefore") != "" {
		return time.Time{}, refuse("saml_recipient", "the assertion's SubjectConfirmationData has a NotBefore, which SAML profiles §4.1.4.2 forbids")
	}
	until, err := instant(data, "NotOnOrAfter")
	if err != nil {
		return time.Time{}, err
	}
	return until, c.before(until, "SubjectConfirmationData")
}

// conditions returns the end of the Conditions. Every one of them counts.
func (c check) conditions(assertion *etree.Element) (time.Time, error) {
	e, err := only(assertion, assertionNS, "Conditions")
	if err != nil {
		return time.Time{}, refuse("saml_audience", "the assertion has not exactly one Conditions, which say whom it is for")
	}
	begin, err := instant(e, "NotBefore")
	if err != nil {
		return time.Time{}, err
	}
	if begin.After(c.now.Add(maxSkew)) {
		return time.Time{}, refuse("saml_not_yet", "the assertion is good from %s on, and it is %s here: check the clock of the identity provider", date(begin), date(c.now))
	}
	end, err := instant(e, "NotOnOrAfter")
	if err != nil {
		return time.Time{}, err
	}
	if err := c.before(end, "Conditions"); err != nil {
		return time.Time{}, err
	}
	audiences := 0
	for _, child := range e.ChildElements() {
		switch {
		case is(child, assertionNS, "AudienceRestriction"):
			audiences++
			if err := c.audience(child); err != nil {
				return time.Time{}, err
			}
		case is(child, assertionNS, "OneTimeUse"), is(child, assertionNS, "ProxyRestriction"):
		default:
			// SAML core §2.5.1: a condition that is not understood is not met.
			return time.Time{}, refuse("saml_structure", "the assertion has a condition that is not supported: %s", child.Tag)
		}
	}
	if audiences == 0 {
		return time.Time{}, refuse("saml_audience", "the assertion does not say whom it is for (AudienceRestriction); this organization's entity ID is %s", c.entityID)
	}
	return end, nil
}

// audience is met when we are one of those that are named.
func (c check) audience(restriction *etree.Element) error {
	var named []string
	for _, e := range children(restriction, assertionNS, "Audience") {
		value, ok := text(e)
		if ok && strings.TrimSpace(value) == c.entityID {
			return nil
		}
		named = append(named, strings.TrimSpace(value))
	}
	return refuse("saml_audience", "the response is for the audience %s; this organization's entity ID is %s", orNone(strings.Join(named, ", ")), c.entityID)
}

// authentication returns the end of the session at the identity provider, zero when it
// does not say.
func (c check) authentication(assertion *etree.Element) (time.Time, error) {
	var end time.Time
	found := children(assertion, assertionNS, "AuthnStatement")
	if len(found) == 0 {
		return end, refuse("saml_structure", "the assertion does not say that the user authenticated (AuthnStatement)")
	}
	for _, e := range found {
		at, err := instant(e, "AuthnInstant")
		if err != nil {
			return end, err
		}
		began := c.flow.Expires.Add(-identity.FlowLife)
		if c.flow.Fresh && !c.flow.Expires.IsZero() && at.Before(began.Add(-maxSkew)) {
			return end, refuse("saml_not_fresh", "the identity provider was told to ask for the credentials again (ForceAuthn), and did not")
		}
		until, err := instant(e, "SessionNotOnOrAfter")
		if err != nil {
			return end, err
		}
		if until.IsZero() {
			continue
		}
		if !c.now.Before(until) {
			return end, refuse("saml_expired", "the session at the identity provider ended at %s, and it is %s here", date(until), date(c.now))
		}
		if end.IsZero() || until.Before(end) {
			end = until
		}
	}
	return end, nil
}

// before is nil while an end, which must be there, has not come.
func (c check) before(end time.Time, where string) error {
	if end.IsZero() {
		return refuse("saml_expired", "the assertion's %s has no NotOnOrAfter", where)
	}
	if !c.now.Before(end.Add(maxSkew)) {
		return refuse("saml_expired", "the assertion was good until %s, and it is %s here: check the clocks, or the user waited for too long", date(end), date(c.now))
	}
	return nil
}

// maxKept bounds how long an assertion is remembered. None is accepted for longer than
// maxAge, whatever it says itself.
const maxKept = 24 * time.Hour

// once returns the keys by which the response and the request are used up.
func (c check) once(assertion *etree.Element, end time.Time) []identity.Once {
	until := end.Add(maxSkew)
	if last := c.now.Add(maxKept); until.After(last) {
		until = last
	}
	keys := []identity.Once{{Key: "saml-assertion:" + digest(c.issuer, attribute(assertion, "ID")), Until: until}}
	if c.flow.Request != "" {
		// As long as the flow's cookie can be opened.
		keys = append(keys, identity.Once{Key: "saml-request:" + c.flow.Request, Until: c.now.Add(identity.FlowLife + maxSkew)})
	}
	return keys
}

// digest makes one name of fixed length of several; their lengths go into it, so that
// no two lists have the same one.
func digest(names ...string) string {
	h := sha256.New()
	for _, n := range names {
		_ = binary.Write(h, binary.BigEndian, uint64(len(n)))
		_, _ = h.Write([]byte(n))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// instant reads a time with its zone; it is zero when there is none.
func instant(e *etree.Element, key string) (time.Time, error) {
	value := attribute(e, key)
	if value == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		return time.Time{}, refuse("saml_structure", "the time of %s is not one of SAML (core §1.3.3)", key)
	}
	return t.UTC(), nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}
