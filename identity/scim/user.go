package scim

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/httpapi"
)

const (
	userSchema  = "urn:ietf:params:scim:schemas:core:2.0:User"
	groupSchema = "urn:ietf:params:scim:schemas:core:2.0:Group"
)

// user is an account as the identity provider describes it.
type user struct {
	id          string // of the account
	userName    string
	externalID  string
	displayName string
	details     details
	active      bool
	meta        meta
	deleted     bool // no resource any more
}

// details are the attributes that are kept for the identity provider and never
// searched but for the addresses.
type details struct {
	Formatted  string  `json:"formatted,omitempty"`
	GivenName  string  `json:"givenName,omitempty"`
	FamilyName string  `json:"familyName,omitempty"`
	Emails     []email `json:"emails,omitempty"`
}

type email struct {
	Value   string `json:"value"`
	Type    string `json:"type,omitempty"`
	Display string `json:"display,omitempty"`
	Primary bool   `json:"primary,omitzero"`
}

// meta is what is known of every resource. The version grows with each change.
type meta struct {
	created, modified time.Time
	version           int64
}

func (m meta) etag() string { return `W/"` + strconv.FormatInt(m.version, 10) + `"` }

// reference is one resource as another one names it.
type reference struct{ id, display string }

func (m meta) resource(kind, location string) resource {
	const stamp = "2006-01-02T15:04:05.000000Z" // whole, so that a filter finds what was shown
	return resource{
		"resourceType": kind, "location": location, "version": m.etag(),
		"created": m.created.Format(stamp), "lastModified": m.modified.Format(stamp),
	}
}

// resource returns u as it is sent. groups is nil when they were not looked up.
func (u user) resource(base string, groups []reference) resource {
	r := resource{
		"schemas": []any{userSchema}, "id": u.id, "userName": u.userName, "active": u.active,
		"meta": u.meta.resource("User", base+"/Users/"+u.id),
	}
	put(r, "externalId", u.externalID)
	put(r, "displayName", u.displayName)
	name := resource{}
	put(name, "formatted", u.details.Formatted)
	put(name, "givenName", u.details.GivenName)
	put(name, "familyName", u.details.FamilyName)
	if len(name) > 0 {
		r["name"] = name
	}
	var emails []any
	for _, e := range u.details.Emails {
		value := resource{"value": e.Value, "primary": e.Primary}
		put(value, "type", e.Type)
		put(value, "display", e.Display)
		emails = append(emails, value)
	}
	if emails != nil {
		r["emails"] = emails
	}
	if groups != nil {
		r["groups"] = references(groups, base+"/Groups/", "direct")
	}
	return r
}

func references(refs []reference, base, kind string) []any {
	out := make([]any, len(refs))
	for i, ref := range refs {
		out[i] = resource{"value": ref.id, "display": ref.display, "$ref": base + ref.id, "type": kind}
	}
	return out
}

// put sets an attribute that is left out when it is empty.
func put(r resource, name, value string) {
	if value != "" {
		r[name] = value
	}
}

// provisioned returns u as the directory keeps it.
func (u user) provisioned() identity.Provisioned {
	p := identity.Provisioned{UserName: u.userName, ExternalID: u.externalID, Active: u.active, Email: u.address()}
	full := u.details.GivenName
	if full != "" && u.details.FamilyName != "" {
		full += " "
	}
	full += u.details.FamilyName
	for _, name := range []string{u.displayName, u.details.Formatted, full, u.userName} {
		if name != "" {
			p.Name = name
			break
		}
	}
	return p
}

// facts are what an audit record has of the attributes that the account has not.
func (u user) facts() map[string]string {
	addresses := make([]string, len(u.details.Emails))
	for i, e := range u.details.Emails {
		addresses[i] = e.Value
	}
	return facts("displayName", u.displayName, "formatted", u.details.Formatted, "givenName", u.details.GivenName,
		"familyName", u.details.FamilyName, "emails", strings.Join(addresses, ", "))
}

// facts makes the facts of a record from names and values, without the empty ones.
func facts(pairs ...string) map[string]string {
	m := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			m[pairs[i]] = pairs[i+1]
		}
	}
	return m
}

// address returns the address that the account gets: the primary one, the one of the
// type "work", or the first.
func (u user) address() string {
	emails := u.details.Emails
	i := slices.IndexFunc(emails, func(e email) bool { return e.Primary })
	if i < 0 {
		i = slices.IndexFunc(emails, func(e email) bool { return fold(e.Type) == "work" })
	}
	if i < 0 {
		if len(emails) == 0 {
			return ""
		}
		i = 0
	}
	return emails[i].Value
}

// replace sets u to what the body of a POST or PUT says. What it does not say is
// cleared, but for active. Attributes that are not kept are ignored.
func (u *user) replace(body resource) error {
	next := user{id: u.id, active: u.active, meta: u.meta, deleted: u.deleted}
	for _, name := range []string{"userName", "externalId", "displayName", "name", "emails", "active"} {
		value, ok := member(body, name)
		if !ok || value == nil {
			continue
		}
		if err := next.set("replace", target{path: attrPath{name: name}}, value); err != nil {
			return err
		}
	}
	if next.userName == "" {
		return refuse(invalidValue, "userName is required")
	}
	*u = next
	return nil
}

// emailsOf reads addresses, of which one at most is the primary one.
func emailsOf(v any) ([]email, error) {
	var out []email
	primary := false
	for _, value := range list(v) {
		var e email
		if text, ok := value.(string); ok {
			value = resource{"value": text}
		}
		object, ok := value.(map[string]any)
		if !ok {
			return nil, refuse(invalidValue, "emails must be objects with a value")
		}
		for _, name := range names(object) {
			if err := e.set(name, object[name]); err != nil {
				return nil, err
			}
		}
		if e.Value == "" {
			continue // Entra ID sends an empty one for a user who has none
		}
		if e.Primary && primary {
			return nil, refuse(invalidValue, "only one of emails can be primary")
		}
		primary = primary || e.Primary
		if !slices.ContainsFunc(out, e.same) {
			out = append(out, e)
		}
	}
	if len(out) > maxEmails {
		return nil, refuse(invalidValue, "a user has at most %d emails", maxEmails)
	}
	return out, nil
}

// same reports whether two addresses are one value of the attribute.
func (e email) same(other email) bool {
	return fold(e.Value) == fold(other.Value) && fold(e.Type) == fold(other.Type)
}

// set sets a sub-attribute; unknown ones are ignored.
func (e *email) set(name string, v any) (err error) {
	switch fold(name) {
	case "value":
		if e.Value, err = textOf("emails.value", v, maxText); err == nil && e.Value != "" {
			_, err = identity.CanonicalEmail(e.Value)
			err = typed(err)
		}
	case "type":
		e.Type, err = textOf("emails.type", v, maxText)
	case "display":
		e.Display, err = textOf("emails.display", v, maxText)
	case "primary":
		if v == nil {
			e.Primary = false
			return nil
		}
		e.Primary, err = boolOf("emails.primary", v)
	}
	return err
}

func (e email) resource() resource {
	return resource{"value": e.Value, "type": e.Type, "display": e.Display, "primary": e.Primary}
}

// shown returns text of a client's fit to be quoted in an answer.
func shown(text string) string { return httpapi.Clean(text, 100) }
