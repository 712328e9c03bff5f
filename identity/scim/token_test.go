package scim_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestToken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		token, err := w.Token(t.Context(), c.org.ID)
		ok(t, err)
		if token.By != "boss" || token.Created != w.clock.now() || !token.LastUsed.IsZero() || token.Tail != c.token[len(c.token)-4:] {
			t.Errorf("the token is %+v", token)
		}
		c.do("GET", "/Users", "").is(200)
		used := w.clock.now()
		w.clock.advance(59 * time.Second)
		c.do("GET", "/Users", "").is(200)
		if token, _ := w.Token(t.Context(), c.org.ID); token.LastUsed != used {
			t.Errorf("last used is %v, want %v", token.LastUsed, used)
		}
		w.clock.advance(time.Second)
		c.do("GET", "/Users", "").is(200)
		if token, _ := w.Token(t.Context(), c.org.ID); token.LastUsed != w.clock.now() {
			t.Errorf("last used is %v, want %v", token.LastUsed, w.clock.now())
		}
		w.audit.take()
		second, err := w.NewToken(t.Context(), w.admin, c.org.ID)
		ok(t, err)
		c.do("GET", "/Users", "").refused(401, "")
		c.token = second
		c.do("GET", "/Users", "").is(200)
		ok(t, w.RevokeToken(t.Context(), w.admin, c.org.ID))
		c.do("GET", "/Users", "").refused(401, "")
		if err := w.RevokeToken(t.Context(), w.admin, c.org.ID); !errors.Is(err, errs.NotFound) {
			t.Errorf("revoking twice: %v", err)
		}
		if _, err := w.NewToken(t.Context(), w.admin, "nowhere"); !errors.Is(err, errs.NotFound) {
			t.Errorf("a token for nobody: %v", err)
		}
		var names []string
		for _, e := range w.audit.take() {
			if e.log != c.org.ID {
				t.Errorf("%s is in log %s", e.event.Name, e.log)
			}
			names = append(names, e.event.Name+" "+e.event.Rule+" "+e.event.Actor.Login)
		}
		want := "scim-token-created  boss,auth-failure-scim-access-token token_unknown ,scim-token-deleted  boss,auth-failure-scim-access-token token_unknown "
		if got := strings.Join(names, ","); got != want {
			t.Errorf("on record is\n%s, want\n%s", got, want)
		}
	})
}

func TestTokenRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, other := w.organization(t, "acme"), w.organization(t, "other")
		flipped := c.token[:10] + swap(c.token[10]) + c.token[11:]
		var first *answer
		for name, test := range map[string]struct{ org, header, reason string }{
			"none":                  {"acme", "", "token_missing"},
			"another scheme":        {"acme", "Basic " + c.token, "token_missing"},
			"bare":                  {"acme", c.token, "token_missing"},
			"empty":                 {"acme", "Bearer ", "token_malformed"},
			"garbage":               {"acme", "Bearer x", "token_malformed"},
			"wrong checksum":        {"acme", "Bearer " + flipped, "token_malformed"},
			"personal access token": {"acme", "Bearer ipk_" + c.token[5:], "token_malformed"},
			"case":                  {"acme", "Bearer " + strings.ToUpper(c.token), "token_malformed"},
			"of somebody else":      {"acme", "Bearer " + other.token, "token_unknown"},
			"unknown organization":  {"nowhere", "Bearer " + c.token, "organization_unknown"},
			"no organization":       {"", "Bearer " + c.token, "organization_unknown"},
			"a user":                {"boss", "Bearer " + c.token, "organization_unknown"},
			"not a name":            {"%00", "Bearer " + c.token, "organization_unknown"},
		} {
			for _, path := range []string{"/Users", "/ServiceProviderConfig", "/nowhere"} {
				a := (&client{t: t, w: w, org: identity.Organization{Login: test.org}}).do("GET", path, "", "Authorization", test.header).refused(401, "")
				if first == nil {
					first = a
				}
				if a.Text != first.Text || a.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s: the answer is %s, but another one %s", name, a.Text, first.Text)
				}
				events := w.audit.take()
				if len(events) != 1 || events[0].event.Name != "auth-failure-scim-access-token" || events[0].event.Rule != test.reason || events[0].event.Decision != audit.Deny {
					t.Errorf("%s: on record is %+v", name, events)
				} else if want := map[bool]string{true: c.org.ID, false: audit.Site}[test.org == "acme"]; events[0].log != want {
					t.Errorf("%s: it is in log %s", name, events[0].log)
				} else if strings.Contains(strings.Join([]string{events[0].event.Description, events[0].event.Object, events[0].event.TokenName}, " "), "ipks_") {
					t.Errorf("%s: a token is on record", name)
				}
			}
		}
		c.do("GET", "/Users", "", "Authorization", "bearer "+c.token).is(200)
		c.org.Login = "ACME"
		c.do("GET", "/Users", "").is(200)

		// Who cannot be recorded is not answered, and a database that fails refuses nobody.
		w.audit.fail = errs.Errorf(errs.Unavailable, "no log")
		c.do("GET", "/Users", "", "Authorization", "Bearer x").refused(503, "")
		w.audit.fail = nil
		ok(t, w.db.Close())
		if a := c.do("GET", "/Users", "").refused(503, ""); a.Header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
	})
}

func swap(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}

// A token of one organization reaches nothing of another one.
func TestIsolation(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.organization(t, "one"), w.organization(t, "two")
		hers := b.do("POST", "/Users", alice).is(201).id()
		for _, id := range []string{hers, w.admin.UserID, "1", "0", "Alice@example.com", "00u1"} {
			a.do("GET", "/Users/"+id, "").refused(404, "")
			a.do("PUT", "/Users/"+id, alice).refused(404, "")
			a.do("PATCH", "/Users/"+id, patch(`[{"op":"replace","value":{"active":false}}]`)).refused(404, "")
			a.do("DELETE", "/Users/"+id, "").refused(404, "")
		}
		a.do("GET", "/Users", "").has(`{"totalResults":0}`)
		a.do("GET", `/Users?filter=userName+eq+"alice@example.com"+or+active+eq+true+or+not+(id+eq+"x")`, "").has(`{"totalResults":0}`)
		a.do("GET", `/Users?filter=userName+pr`, "").has(`{"totalResults":0}`)

		// The same names mean other accounts there.
		mine := a.do("POST", "/Users", alice).is(201).id()
		if mine == hers {
			t.Fatal("two organizations share an account")
		}
		a.do("DELETE", "/Users/"+mine, "").is(204)
		b.do("GET", "/Users/"+hers, "").is(200).has(`{"active":true,"externalId":"00u1"}`)
		for _, e := range w.audit.take() {
			if e.log != a.org.ID && strings.Contains(e.event.Object, mine) {
				t.Errorf("%+v is in log %s", e.event, e.log)
			}
		}
	})
}

// Everything that changes is on record in the organization's log, with the token; and
// what cannot be recorded does not happen.
func TestRecorded(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		token, err := w.Token(t.Context(), c.org.ID)
		ok(t, err)
		var user, group string
		steps := []struct {
			name string
			do   func() *answer
		}{
			{"create user", func() *answer { a := c.do("POST", "/Users", alice); user = a.id(); return a }},
			{"create group", func() *answer { a := c.do("POST", "/Groups", groupBody("G", []string{user})); group = a.id(); return a }},
			{"change user", func() *answer {
				return c.do("PATCH", "/Users/"+user, patch(`[{"op":"replace","value":{"displayName":"B"}}]`))
			}},
			{"rename group", func() *answer {
				return c.do("PATCH", "/Groups/"+group, patch(`[{"op":"replace","value":{"displayName":"H"}}]`))
			}},
			{"remove member", func() *answer { return c.do("PATCH", "/Groups/"+group, patch(`[{"op":"remove","path":"members"}]`)) }},
			{"add member", func() *answer {
				return c.do("PATCH", "/Groups/"+group, patch(`[{"op":"add","path":"members","value":[{"value":"`+user+`"}]}]`))
			}},
			{"external id of group", func() *answer {
				return c.do("PATCH", "/Groups/"+group, patch(`[{"op":"add","path":"externalId","value":"x"}]`))
			}},
			{"second address", func() *answer {
				return c.do("PATCH", "/Users/"+user, patch(`[{"op":"add","path":"emails","value":[{"value":"c@example.com"}]}]`))
			}},
			{"deactivate user", func() *answer {
				return c.do("PATCH", "/Users/"+user, patch(`[{"op":"replace","value":{"active":false}}]`))
			}},
			{"delete group", func() *answer { return c.do("DELETE", "/Groups/"+group, "") }},
			{"delete user", func() *answer { return c.do("DELETE", "/Users/"+user, "") }},
			{"revive user", func() *answer { return c.do("POST", "/Users", alice) }},
		}
		for _, step := range steps {
			w.audit.take()
			before := c.do("GET", "/Users", "").Text + c.do("GET", "/Groups", "").Text
			was := [2]string{user, group}
			w.audit.fail = errs.Errorf(errs.Unavailable, "no log")
			step.do().refused(503, "")
			w.audit.fail = nil
			user, group = was[0], was[1]
			if after := c.do("GET", "/Users", "").Text + c.do("GET", "/Groups", "").Text; after != before {
				t.Errorf("%s: without a log it left\n%s\nof\n%s", step.name, after, before)
			}
			if a := step.do(); a.Status/100 != 2 {
				t.Fatalf("%s: %d %s", step.name, a.Status, a.Text)
			}
			events := w.audit.take()
			if len(events) == 0 {
				t.Errorf("%s: nothing is on record", step.name)
			}
			for _, e := range events {
				if e.log != c.org.ID || e.event.Connector != "scim" || e.event.TokenID != token.ID || e.event.Actor.Kind != audit.System {
					t.Errorf("%s: on record in %s is %+v", step.name, e.log, e.event)
				}
			}
			t.Log(step.name, len(events))
		}
	})
}

// An account is not made without the resource.
func TestHalfMade(t *testing.T) {
	w := newWorld(t, sqlite(t))
	c := w.organization(t, "acme")
	ok(t, w.db.Conn(t.Context()).Exec("CREATE TRIGGER broken BEFORE INSERT ON scim_users BEGIN SELECT RAISE(ABORT, 'broken'); END").Error)
	if a := c.do("POST", "/Users", alice).refused(500, ""); strings.Contains(a.Text, "broken") {
		t.Errorf("the client sees the cause: %s", a.Text)
	}
	if events := w.audit.take(); len(events) != 0 {
		t.Errorf("on record is %+v", events)
	}
	ok(t, w.db.Conn(t.Context()).Exec("DROP TRIGGER broken").Error)
	c.do("POST", "/Users", alice).is(201)
}
