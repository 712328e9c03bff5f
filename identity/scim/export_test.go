package scim

import (
	"bytes"
	"net/http"
	"net/http/httptest"
)

// What the tests need to see from inside.

// ParseFilter returns the canonical spelling of a filter.
func ParseFilter(text string) (string, error) {
	f, err := parseFilter(text)
	if err != nil {
		return "", err
	}
	return f.String(), nil
}

// Matches evaluates a filter on a resource without the database.
func Matches(text string, r map[string]any, schema string) (bool, error) {
	f, err := parseFilter(text)
	if err != nil {
		return false, err
	}
	return f.matches(r, schema), nil
}

// ParsePath reports whether text is a path.
func ParsePath(text string) error {
	_, err := parsePath(text)
	return err
}

// Narrowed says what the database is asked for a filter of users, and whether that is all.
func Narrowed(text string) (sql string, exact bool) {
	f, err := parseFilter(text)
	if err != nil {
		return "", false
	}
	cond, ok := userColumns.where(f, userSchema)
	if !ok {
		return "", false
	}
	return cond.sql, cond.exact
}

// Patch applies the body of a PATCH request to a user and a group, and returns how many
// of the user's addresses are primary afterwards.
func Patch(body []byte) (primary int, err error) {
	r := httptest.NewRequest(http.MethodPatch, "/", bytes.NewReader(body))
	object, err := readObject(r)
	if err != nil {
		return 0, err
	}
	u := user{id: "u", userName: "u", details: details{Emails: []email{{Value: "a@x.example", Type: "work", Primary: true}, {Value: "b@x.example"}}}}
	err = patchUser(&u, object)
	for _, e := range u.details.Emails {
		if e.Primary {
			primary++
		}
	}
	_ = u.provisioned()
	g := change{group: group{id: "g"}, current: func() ([]reference, error) { return []reference{{"m", "M"}}, nil }}
	_ = patchGroup(&g, object)
	g.members.split()
	return primary, err
}

func TeamName(text string) string { return teamName(text) }

const (
	UserSchema  = userSchema
	GroupSchema = groupSchema
)

var NewSecret = newSecret
