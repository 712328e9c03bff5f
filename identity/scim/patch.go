package scim

import (
	"slices"
	"strings"
)

// operation is one of a PATCH request (RFC 7644 §3.5.2).
type operation struct {
	op    string // "add", "replace" or "remove"
	path  string // "": value is an object of attributes
	value any
}

// maxOperations bounds a PATCH request.
const maxOperations = 1000

// operations reads the body of a PATCH request. The names of operations have any
// case: Entra ID sends "Add".
func operations(body resource) ([]operation, error) {
	value, _ := member(body, "Operations")
	values, ok := value.([]any)
	if !ok || len(values) == 0 {
		return nil, refuse(invalidSyntax, "Operations must be a list of at least one operation")
	}
	if len(values) > maxOperations {
		return nil, refuse(tooMany, "a request has at most %d operations", maxOperations)
	}
	out := make([]operation, len(values))
	for i, value := range values {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, refuse(invalidSyntax, "an operation must be an object")
		}
		op, _ := member(object, "op")
		name, _ := op.(string)
		out[i].op = fold(name)
		if !slices.Contains([]string{"add", "replace", "remove"}, out[i].op) {
			return nil, refuse(invalidSyntax, "op must be add, replace or remove")
		}
		if path, given := member(object, "path"); given && path != nil {
			if out[i].path, ok = path.(string); !ok {
				return nil, refuse(invalidPath, "path must be a string")
			}
		}
		out[i].value, _ = member(object, "value")
		if out[i].op == "remove" && out[i].path == "" {
			return nil, refuse(noTarget, "remove needs a path")
		}
	}
	return out, nil
}

// patched is what a PATCH request changes.
type patched interface {
	// set changes an attribute of the resource's own schema.
	set(op string, t target, value any) error
	// about returns the ID and the schema.
	about() (id, schema string)
}

// apply carries out one operation on p.
func (o operation) apply(p patched) error {
	if o.path != "" {
		t, err := parsePath(o.path)
		if err != nil {
			return err
		}
		return assign(p, o.op, t, o.value)
	}
	return assignAll(p, o.op, o.value)
}

// assignAll is an operation without a path. The names of value's members are
// attributes, or, as Entra ID sends them, whole paths. Unknown ones are ignored, as in
// the body of a PUT.
func assignAll(p patched, op string, value any) error {
	object, ok := value.(map[string]any)
	if !ok {
		return refuse(invalidValue, "without a path, value must be an object of attributes")
	}
	id, schema := p.about()
	for _, name := range names(object) {
		value := object[name]
		switch fold(name) {
		case "schemas", "meta", "groups":
			continue // read-only, and sent along
		case "id":
			if value != id {
				return refuse(mutability, "id cannot be changed")
			}
			continue
		case fold(schema):
			if err := assignAll(p, op, value); err != nil {
				return err
			}
			continue
		}
		t, err := parsePath(name)
		if err != nil || !known(schema, t.path.name) {
			continue
		}
		if err := assign(p, op, t, value); err != nil {
			return err
		}
	}
	return nil
}

// Attributes of RFC 7643 §4 that are not kept, and those of the enterprise extension,
// which some clients send without its URN. Setting them does nothing.
var ignored = strings.Fields(`nickname profileurl title usertype preferredlanguage locale timezone password phonenumbers
	ims photos addresses entitlements roles x509certificates employeenumber costcenter organization division department manager`)

// assign sets one attribute of p.
func assign(p patched, op string, t target, value any) error {
	_, schema := p.about()
	if t.path.schema != "" && !strings.EqualFold(t.path.schema, schema) {
		return nil // of an extension
	}
	name := fold(t.path.name)
	switch {
	case slices.Contains([]string{"id", "meta", "schemas"}, name) || schema == userSchema && name == "groups":
		return refuse(mutability, "%s cannot be changed", shown(t.path.name))
	case known(schema, name):
	case schema == userSchema && slices.Contains(ignored, name):
		return nil
	default:
		return refuse(invalidPath, "there is no attribute %s", shown(t.path.String()))
	}
	if t.values != nil && name != "emails" && name != "members" {
		return refuse(invalidPath, "%s has no values to select", shown(t.path.name))
	}
	if t.path.sub != "" && slices.Contains([]string{"username", "externalid", "displayname", "active"}, name) {
		return refuse(invalidPath, "%s has no sub-attributes", shown(t.path.name))
	}
	if op == "remove" && t.values == nil && name != "members" && name != "emails" {
		value = nil
	}
	return p.set(op, t, value)
}

// known reports whether an attribute is kept.
func known(schema, name string) bool {
	name = fold(name)
	if schema == groupSchema {
		return slices.Contains([]string{"displayname", "externalid", "members"}, name)
	}
	return slices.Contains([]string{"username", "externalid", "displayname", "active", "name", "emails"}, name)
}

func (u *user) about() (id, schema string) { return u.id, userSchema }

func (u *user) set(op string, t target, value any) (err error) {
	switch fold(t.path.name) {
	case "username":
		var text string
		if text, err = textOf("userName", value, maxText); err != nil {
			return err
		}
		if text == "" {
			return refuse(mutability, "userName is required and cannot be removed")
		}
		u.userName = text
	case "externalid":
		u.externalID, err = textOf("externalId", value, maxText)
	case "displayname":
		u.displayName, err = textOf("displayName", value, maxText)
	case "active":
		if value == nil {
			return refuse(mutability, "active cannot be removed")
		}
		u.active, err = boolOf("active", value)
	case "name":
		return u.setName(t, value)
	case "emails":
		return u.setEmails(op, t, value)
	}
	return err
}

func (u *user) setName(t target, value any) (err error) {
	switch fold(t.path.sub) {
	case "formatted":
		u.details.Formatted, err = textOf("name.formatted", value, maxText)
	case "givenname":
		u.details.GivenName, err = textOf("name.givenName", value, maxText)
	case "familyname":
		u.details.FamilyName, err = textOf("name.familyName", value, maxText)
	case "middlename", "honorificprefix", "honorificsuffix":
	case "":
		if value == nil {
			u.details.Formatted, u.details.GivenName, u.details.FamilyName = "", "", ""
			return nil
		}
		object, ok := value.(map[string]any)
		if !ok {
			return refuse(invalidValue, "name must be an object")
		}
		for _, sub := range names(object) {
			if !slices.Contains([]string{"formatted", "givenname", "familyname"}, fold(sub)) {
				continue
			}
			if err := u.setName(target{path: attrPath{name: "name", sub: sub}}, object[sub]); err != nil {
				return err
			}
		}
	default:
		return refuse(invalidPath, "there is no attribute name.%s", shown(t.path.sub))
	}
	return err
}

// setEmails adds, replaces or removes addresses. It makes a list of its own, since u's
// may be shared with what u was copied from.
func (u *user) setEmails(op string, t target, value any) error {
	emails := slices.Clone(u.details.Emails)
	if t.path.sub != "" && !slices.Contains([]string{"value", "type", "display", "primary"}, fold(t.path.sub)) {
		return refuse(invalidPath, "there is no attribute emails.%s", shown(t.path.sub))
	}
	var err error
	switch {
	case t.values != nil || t.path.sub != "":
		emails, err = selectEmails(emails, op, t, value)
	default:
		var given []email
		if given, err = emailsOf(value); err != nil {
			return err
		}
		switch {
		case op == "replace" || op == "remove" && value == nil:
			emails = given
		case op == "remove":
			emails = slices.DeleteFunc(emails, func(e email) bool { return slices.ContainsFunc(given, e.same) })
		default:
			emails = mergeEmails(emails, given)
		}
	}
	if err != nil {
		return err
	}
	if len(emails) > maxEmails {
		return refuse(invalidValue, "a user has at most %d emails", maxEmails)
	}
	u.details.Emails = emails
	return nil
}

// mergeEmails adds addresses; one that is there already is replaced.
func mergeEmails(emails, given []email) []email {
	for _, e := range given {
		emails = slices.DeleteFunc(emails, e.same)
		emails = append(emails, e)
		if e.Primary {
			onlyPrimary(emails, len(emails)-1)
		}
	}
	return emails
}

// onlyPrimary makes the address at one place the only primary one (RFC 7644 §3.5.2).
func onlyPrimary(emails []email, at int) {
	for i := range emails {
		emails[i].Primary = i == at
	}
}

// selectEmails changes the addresses that a path selects: all of a sub-attribute's
// without a filter.
func selectEmails(emails []email, op string, t target, value any) ([]email, error) {
	var selected []int
	for i, e := range emails {
		if t.values == nil || t.values.matchesValue(e.resource(), "emails") {
			selected = append(selected, i)
		}
	}
	if op == "remove" {
		for _, i := range slices.Backward(selected) {
			if sub := fold(t.path.sub); sub == "" || sub == "value" {
				emails = slices.Delete(emails, i, i+1)
			} else if err := emails[i].set(sub, nil); err != nil {
				return nil, err
			}
		}
		return emails, nil
	}
	if len(selected) == 0 {
		if op == "replace" {
			return nil, refuse(noTarget, "no address is selected by the path")
		}
		// Entra ID adds the value of emails[type eq "work"] to who has none of that type.
		var fresh email
		if err := fresh.suppose(t.values); err != nil {
			return nil, err
		}
		emails, selected = append(emails, fresh), []int{len(emails)}
	}
	for _, i := range selected {
		if err := emails[i].assign(t.path.sub, value); err != nil {
			return nil, err
		}
		if emails[i].Value == "" {
			return nil, refuse(invalidValue, "an address needs a value")
		}
		if emails[i].Primary {
			onlyPrimary(emails, i)
		}
	}
	return emails, nil
}

func (e *email) assign(sub string, value any) error {
	if sub != "" {
		return e.set(sub, value)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return refuse(invalidValue, "an address must be an object")
	}
	for _, name := range names(object) {
		if err := e.set(name, object[name]); err != nil {
			return err
		}
	}
	return nil
}

// suppose gives e what a filter says of it by "eq" and "and".
func (e *email) suppose(f *filter) error {
	switch {
	case f == nil:
	case f.kind == filterAnd:
		if err := e.suppose(f.left); err != nil {
			return err
		}
		return e.suppose(f.right)
	case f.kind == filterCompare && f.op == "eq" && f.value.kind != literalNull:
		return e.set(f.path.name, f.value.text)
	default:
		return refuse(noTarget, "no address is selected by the path")
	}
	return nil
}
