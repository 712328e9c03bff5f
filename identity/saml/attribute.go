package saml

import (
	"slices"
	"strings"
	"unicode"

	"github.com/beevik/etree"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// AttributeMap names the attributes that an identity provider sends. An empty name
// stands for the usual ones, plain and as URIs.
type AttributeMap struct {
	Login     string `json:"login"`
	Name      string `json:"name"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
	Email     string `json:"email"`
	Groups    string `json:"groups"`
}

// What is kept of what an identity provider says. How many groups count is the
// directory's business, which puts it on record when there are more.
const (
	maxShown = 100 // attributes, and values of each, on the test page
	maxValue = 256 // bytes of a value
)

// The usual names: as people write them, as LDAP has them (RFC 4519, with their OIDs as
// in the X.500 attribute profile, SAML profiles §8.2), and as Entra ID and ADFS do.
const (
	claims    = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"
	microsoft = "http://schemas.microsoft.com/"
)

var usual = struct{ login, name, firstName, lastName, email, groups []string }{
	login: []string{
		"login", "username", "user_name", "preferred_username", "uid", "urn:oid:0.9.2342.19200300.100.1.1",
		"sAMAccountName", microsoft + "ws/2008/06/identity/claims/windowsaccountname", claims + "upn", claims + "name",
	},
	name: []string{
		"displayName", "display_name", "urn:oid:2.16.840.1.113730.3.1.241", microsoft + "identity/claims/displayname",
		"fullName", "full_name", "name", "cn", "urn:oid:2.5.4.3",
	},
	firstName: []string{"firstName", "first_name", "givenName", "given_name", "urn:oid:2.5.4.42", claims + "givenname"},
	lastName:  []string{"lastName", "last_name", "surname", "sn", "family_name", "urn:oid:2.5.4.4", claims + "surname"},
	email:     []string{"email", "mail", "emailAddress", "email_address", "urn:oid:0.9.2342.19200300.100.1.3", "urn:oid:1.2.840.113549.1.9.1", claims + "emailaddress"},
	groups: []string{
		"groups", "group", "memberOf", "isMemberOf", "urn:oid:1.3.6.1.4.1.5923.1.5.1.1", "urn:oid:1.2.840.113556.1.2.102",
		microsoft + "ws/2008/06/identity/claims/groups", "http://schemas.xmlsoap.org/claims/Group",
	},
}

// said is an attribute of an assertion.
type said struct {
	name, friendly string
	values         []string
}

// statements returns the attributes of an assertion.
func statements(assertion *etree.Element) ([]said, error) {
	var all []said
	for _, statement := range children(assertion, assertionNS, "AttributeStatement") {
		for _, e := range children(statement, assertionNS, "Attribute") {
			one := said{name: attribute(e, "Name"), friendly: attribute(e, "FriendlyName")}
			if one.name == "" {
				return nil, refuse("saml_structure", "the assertion has an Attribute without a Name")
			}
			for _, v := range children(e, assertionNS, "AttributeValue") {
				// Values with elements in them, such as eduPersonTargetedID, mean nothing here.
				if value, ok := text(v); ok {
					one.values = append(one.values, strings.TrimSpace(value))
				}
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// find returns the values of the attribute with a name that an administrator has given,
// or else with one of the usual names; false when the identity provider did not send
// it. Names count before friendly names, which nothing keeps unique.
func find(all []said, given string, usual []string) ([]string, bool) {
	names := usual
	if given != "" {
		names = []string{given}
	}
	for _, key := range []func(said) string{
		func(s said) string { return s.name },
		func(s said) string { return s.friendly },
	} {
		for _, name := range names {
			var values []string
			sent := false
			for _, s := range all {
				if strings.EqualFold(key(s), name) {
					values, sent = append(values, s.values...), true
				}
			}
			if sent {
				return values, true
			}
		}
	}
	return nil, false
}

// external is what the identity provider says about somebody. Nothing in it gives a
// right here: groups only name what an administrator has mapped.
func (v verifier) external(nameID, format string, all []said) identity.External {
	first := func(given string, usual []string) string {
		values, _ := find(all, given, usual)
		for _, value := range values {
			if value = httpapi.Clean(value, maxValue); value != "" {
				return value
			}
		}
		return ""
	}
	x := identity.External{
		Subject:    nameID,
		Login:      first(v.attributes.Login, usual.login),
		Name:       first(v.attributes.Name, usual.name),
		Attributes: shown(all),
	}
	if x.Name == "" {
		x.Name = strings.TrimSpace(first(v.attributes.FirstName, usual.firstName) + " " + first(v.attributes.LastName, usual.lastName))
	}
	address := first(v.attributes.Email, usual.email)
	if address == "" && format == EmailAddress {
		address = nameID
	}
	if canonical, err := identity.CanonicalEmail(address); err == nil {
		x.Email = canonical
		// An identity provider speaks for the domains of its organization and no others.
		x.EmailVerified = slices.Contains(v.domains, canonical[strings.LastIndexByte(canonical, '@')+1:])
	}
	if x.Login == "" {
		x.Login = x.Email
	}
	if x.Login == "" && format == EmailAddress {
		x.Login = nameID
	}
	x.Login, _, _ = strings.Cut(x.Login, "@")
	if values, sent := find(all, v.attributes.Groups, usual.groups); sent {
		x.Groups = groups(values)
	}
	return x
}

// groups returns the groups of that name, each once, never nil. What could not be
// typed or shown is left out.
func groups(values []string) []identity.Group {
	found := make([]identity.Group, 0, len(values))
	seen := make(map[string]bool)
	for _, value := range values {
		if value == "" || len(value) > maxValue || seen[value] || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			continue
		}
		seen[value] = true
		found = append(found, identity.Group{ID: value, Path: value})
	}
	return found
}

// shown returns the attributes for the eyes of an administrator.
func shown(all []said) map[string][]string {
	m := make(map[string][]string)
	for _, s := range all {
		name := httpapi.Clean(s.name, maxValue)
		if _, there := m[name]; !there && len(m) == maxShown {
			continue
		}
		if m[name] == nil {
			m[name] = []string{}
		}
		for _, value := range s.values {
			if len(m[name]) < maxShown {
				m[name] = append(m[name], httpapi.Clean(value, maxValue))
			}
		}
	}
	return m
}
