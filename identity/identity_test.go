package identity_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

// clock is a clock that only a test moves.
type clock struct{ micros atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.micros.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMicro(c.micros.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// recorder is the real log, with an error to inject and a look at what is recorded.
type recorder struct {
	log  *audit.Log
	fail func() error

	mu      sync.Mutex
	entries []recorded
}

type recorded struct {
	log   string
	event audit.Event
}

func (r *recorder) AppendDone(ctx context.Context, log string, e audit.Event, o audit.Outcome) (audit.Ref, error) {
	if r.fail != nil {
		if err := r.fail(); err != nil {
			return audit.Ref{}, err
		}
	}
	ref, err := r.log.AppendDone(ctx, log, e, o)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.entries = append(r.entries, recorded{log, e})
	}
	return ref, err
}

// take returns the events since the last call, as "name object".
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.entries {
		out = append(out, e.event.Name+" "+e.event.Object)
	}
	r.entries = nil
	return out
}

type world struct {
	*identity.Directory
	db    *database.DB
	clock *clock
	audit *recorder
}

func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, newWorld(t, db)) }, migrations...)
}

var migrations = []database.Migrations{identity.Migrations, audit.Migrations}

func newWorld(t testing.TB, db *database.DB) *world {
	t.Helper()
	if db.Dialect() == database.SQLite { // no test here cuts the power
		ok(t, db.Conn(t.Context()).Exec("PRAGMA synchronous = OFF").Error)
	}
	log, err := audit.Open(audit.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	w := &world{db: db, clock: newClock(), audit: &recorder{log: log}}
	w.Directory, err = identity.Open(identity.Config{DB: db, Audit: w.audit, Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// user makes a user and returns it as a caller.
func (w *world) user(t testing.TB, login string) identity.Principal {
	t.Helper()
	u, err := w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: login, Email: login + "@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return u.Principal("email")
}

func kind(t testing.TB, err error, want errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != want {
		t.Fatalf("error is %v, want one of kind %q", err, want)
	}
}

func reason(t testing.TB, err error, want string) *identity.Refusal {
	t.Helper()
	kind(t, err, errs.Unauthenticated)
	var refusal *identity.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != want {
		t.Fatalf("error is %v, want a refusal for %s", err, want)
	}
	if strings.Contains(errs.Public(err), refusal.Reason) {
		t.Fatalf("the client is told the reason: %q", errs.Public(err))
	}
	return refusal
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLoginsAreOneNamespaceWithoutCase(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "Alice")
		if u, err := w.UserByLogin(t.Context(), "aLICE"); err != nil || u.Login != "Alice" || u.ID != alice.UserID {
			t.Errorf("UserByLogin: %+v, %v", u, err)
		}
		_, err := w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "ALICE"})
		kind(t, err, errs.Conflict)
		_, err = w.CreateOrganization(t.Context(), alice, "alice", "")
		kind(t, err, errs.Conflict)
		o, err := w.CreateOrganization(t.Context(), alice, "Acme", "Acme \x1b[31mCorporation\n")
		ok(t, err)
		if o.Name != "Acme [31mCorporation" {
			t.Errorf("name is %q", o.Name)
		}
		_, err = w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "acME"})
		kind(t, err, errs.Conflict)
		if got, err := w.Organization(t.Context(), "ACME"); err != nil || got != o {
			t.Errorf("Organization: %+v, %v", got, err)
		}
		// A user is no organization and the other way round.
		_, err = w.Organization(t.Context(), "alice")
		kind(t, err, errs.NotFound)
		_, err = w.UserByLogin(t.Context(), "acme")
		kind(t, err, errs.NotFound)
	})
}

func TestLookupsOfNothingFindNobody(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.user(t, "alice")
		for _, bad := range []string{"", "1=1", "' OR 1=1 --", "alice'", "alice ", "al%", "alic\u212b", "\x00"} {
			_, err := w.UserByLogin(t.Context(), bad)
			kind(t, err, errs.NotFound)
			_, err = w.Organization(t.Context(), bad)
			kind(t, err, errs.NotFound)
			_, err = w.UserByEmail(t.Context(), bad)
			kind(t, err, errs.NotFound)
		}
		for _, id := range []string{"", "1=1", "' OR 1=1 --"} {
			_, err := w.User(t.Context(), id)
			kind(t, err, errs.NotFound)
			_, err = w.MembersOf(t.Context(), id)
			kind(t, err, errs.NotFound)
		}
		_, err := w.UserByIdentity(t.Context(), identity.Identity{})
		kind(t, err, errs.NotFound)
	})
}

func TestValidLogin(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "0": true, "alice": true, "A-b_c9": true, strings.Repeat("a", 39): true, "admin": true, "a--b": true, "a-": true,
		"": false, "-a": false, "_a": false, strings.Repeat("a", 40): false, "a b": false, "a.b": false, "a/b": false, "a@b": false,
		"\u0430lice": false, "ali\u212Ae": false, "a\n": false, "a%": false, "a\x00": false, "é": false,
		"api": false, "API": false, "cli-login": false, "user": false, "signin": false, "welcome": false, "claim": false, "assets": false, "account": false,
	} {
		if err := identity.ValidLogin(name); (err == nil) != want || err != nil && errs.KindOf(err) != errs.Invalid {
			t.Errorf("ValidLogin(%q) = %v", name, err)
		}
	}
	if identity.ValidOrganization("Admin") == nil || identity.ValidOrganization("scim") == nil || identity.ValidOrganization("acme") != nil {
		t.Error("ValidOrganization answers wrongly")
	}
}

func TestCanonicalEmail(t *testing.T) {
	for address, want := range map[string]string{
		"alice@example.com": "alice@example.com", "A@CORP.COM": "a@corp.com", "a.b+c@x-y.example.com": "a.b+c@x-y.example.com",
		"a@xn--bcher-kva.example": "a@xn--bcher-kva.example", "o'neil@example.com": "o'neil@example.com",
		"a@x@corp.com": "", "a@corp.com@x": "", `"a@corp.com"@x.com`: "", "a@corp.com\n": "", "\na@corp.com": "", "a@corp.com\r\nBcc: b@x.com": "",
		"a@\uff43\uff4f\uff52\uff50.com": "", "\u0131@corp.com": "", "\u0130@corp.com": "", "\u212a@corp.com": "", "a@corp.com\x00": "", " a@corp.com": "",
		"": "", "a": "", "@": "", "@corp.com": "", "a@": "", "a@corp": "", "a@.com": "", "a@corp..com": "", "a@-corp.com": "", "a@corp-.com": "",
		"a@corp.com.": "", ".a@corp.com": "", "a.@corp.com": "", "a..b@corp.com": "", "a@127.0.0.1": "", "a@[127.0.0.1]": "", "a b@corp.com": "",
		"a,b@corp.com": "", "<a@corp.com>": "", "a(x)@corp.com": "", "a@corp_x.com": "", strings.Repeat("a", 65) + "@corp.com": "",
		"a@" + strings.Repeat("a.", 130) + "com": "", "a@" + strings.Repeat("a", 64) + ".com": "",
	} {
		got, err := identity.CanonicalEmail(address)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("CanonicalEmail(%q) = %q, %v", address, got, err)
		}
		if err != nil && (errs.KindOf(err) != errs.Invalid || address != "" && address != "@" && address != "a" && strings.Contains(err.Error(), address)) {
			t.Errorf("CanonicalEmail(%q): %v", address, err)
		}
	}
}

func FuzzCanonicalEmail(f *testing.F) {
	f.Add("Alice@Example.com")
	f.Add("a@x@corp.com")
	f.Add("a@\uff43.com")
	f.Fuzz(func(t *testing.T, address string) {
		got, err := identity.CanonicalEmail(address)
		if err != nil {
			return
		}
		again, err := identity.CanonicalEmail(got)
		if err != nil || again != got {
			t.Errorf("%q becomes %q, which becomes %q, %v", address, got, again, err)
		}
		if strings.Count(got, "@") != 1 || len(got) > 254 || !strings.EqualFold(got, address) || strings.ContainsAny(got, " \t\r\n\x00<>(),;:\\\"[]") {
			t.Errorf("%q is accepted as %q", address, got)
		}
		for _, c := range []byte(got) {
			if c <= ' ' || c >= 0x7f {
				t.Errorf("%q is accepted as %q", address, got)
			}
		}
	})
}

func TestSameEmailLinksNobody(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		make := func(login string, i identity.Identity) (identity.User, error) {
			return w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: login, Email: "Victim@Example.com", Identity: i})
		}
		victim, err := make("victim", identity.Identity{Connector: "email", Subject: "victim@example.com"})
		ok(t, err)
		other, err := make("attacker", identity.Identity{Connector: "gitlab", Subject: "7"})
		ok(t, err)
		third, err := make("third", identity.Identity{Connector: "gitlab-b", Subject: "7"})
		ok(t, err)
		if u, err := w.UserByEmail(t.Context(), "VICTIM@example.com"); err != nil || u.ID != victim.ID {
			t.Errorf("UserByEmail: %+v, %v", u, err)
		}
		if u, err := w.UserByIdentity(t.Context(), identity.Identity{Connector: "gitlab-b", Subject: "7"}); err != nil || u.ID != third.ID {
			t.Errorf("UserByIdentity: %+v, %v", u, err)
		}
		kind(t, w.AddIdentity(t.Context(), identity.Principal{}, other.ID, identity.Identity{Connector: "email", Subject: "victim@example.com"}), errs.Conflict)
		ok(t, w.AddIdentity(t.Context(), identity.Principal{}, other.ID, identity.Identity{Connector: "gitlab", Subject: "7"}))
		_, err = make("fourth", identity.Identity{Connector: "gitlab", Subject: "7"})
		kind(t, err, errs.Conflict)
		_, err = w.UserByLogin(t.Context(), "fourth")
		kind(t, err, errs.NotFound)
	})
}

func TestChangesAndTheirRecordAreOneTransaction(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := w.user(t, "alice"), w.user(t, "bob")
		o, err := w.CreateOrganization(t.Context(), alice, "acme", "")
		ok(t, err)
		_, err = w.AddMember(t.Context(), alice, o.ID, "bob", identity.RoleMember)
		ok(t, err)
		secret, session, err := w.CreateSession(t.Context(), alice.UserID, "email")
		ok(t, err)
		token, raw, err := w.CreateToken(t.Context(), alice, identity.TokenRequest{Description: "x"})
		ok(t, err)
		before := w.picture(t, o)
		changes := 0
		w.OnChange(func(string) { changes++ })

		p := alice
		p.SessionID = session.ID
		full := errs.Errorf(errs.Unavailable, "the disk is full")
		w.audit.fail = func() error { return full }
		for name, change := range map[string]func() error{
			"create user": func() error {
				_, err := w.CreateUser(t.Context(), alice, identity.NewUser{Login: "carol"})
				return err
			},
			"create organization": func() error { _, err := w.CreateOrganization(t.Context(), alice, "other", ""); return err },
			"add identity": func() error {
				return w.AddIdentity(t.Context(), alice, bob.UserID, identity.Identity{Connector: "g", Subject: "1"})
			},
			"disable": func() error { return w.Disable(t.Context(), alice, bob.UserID) },
			"add member": func() error {
				_, err := w.AddMember(t.Context(), alice, o.ID, "alice", identity.RoleMember)
				return err
			},
			"set role":       func() error { return w.SetRole(t.Context(), alice, o.ID, "bob", identity.RoleAdmin) },
			"remove member":  func() error { return w.RemoveMember(t.Context(), alice, o.ID, "bob") },
			"create session": func() error { _, _, err := w.CreateSession(t.Context(), alice.UserID, "email"); return err },
			"end session":    func() error { return w.EndSession(t.Context(), p) },
			"revoke session": func() error { return w.RevokeSession(t.Context(), p, session.ID) },
			"end sessions":   func() error { return w.EndSessions(t.Context(), p, alice.UserID) },
			"create token":   func() error { _, _, err := w.CreateToken(t.Context(), p, identity.TokenRequest{}); return err },
			"revoke token":   func() error { return w.RevokeToken(t.Context(), p, token.ID) },
		} {
			if err := change(); err == nil {
				t.Errorf("%s succeeds without a record", name)
			} else if name != "add member" && errs.KindOf(err) != errs.Unavailable {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.audit.fail = nil
		if after := w.picture(t, o); after != before {
			t.Errorf("something has changed without a record:\n%s\n%s", before, after)
		}
		if changes != 0 {
			t.Errorf("%d changes were told that never were", changes)
		}
		_, err = w.AuthenticateSession(t.Context(), secret)
		ok(t, err)
		_, err = w.AuthenticateToken(t.Context(), raw)
		ok(t, err)
	})
}

// picture is what the directory holds, as text to compare.
func (w *world) picture(t *testing.T, o identity.Organization) string {
	t.Helper()
	roster, err := w.MembersOf(t.Context(), o.ID)
	ok(t, err)
	text := fmt.Sprint(roster)
	for _, login := range []string{"alice", "bob", "carol"} {
		u, err := w.UserByLogin(t.Context(), login)
		text += fmt.Sprint("\n", u, errs.KindOf(err))
		identities, err := w.Identities(t.Context(), u.ID)
		ok(t, err)
		sessions, err := w.Sessions(t.Context(), u.ID)
		ok(t, err)
		tokens, _, err := w.Tokens(t.Context(), u.ID, identity.TokenQuery{})
		ok(t, err)
		memberships, err := w.Organizations(t.Context(), u.ID)
		ok(t, err)
		text += fmt.Sprint(identities, sessions, tokens, memberships)
	}
	return text
}

func TestListenersHearAfterTheCommit(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		w.user(t, "bob")
		var heard []string
		w.OnChange(func(id string) {
			// What is told must be there to be read, from outside of any transaction.
			if id != "" {
				if _, err := w.MembersOf(context.Background(), id); err != nil {
					t.Errorf("told of a change that cannot be read: %v", err)
				}
			}
			heard = append(heard, id)
		})
		o, err := w.CreateOrganization(t.Context(), alice, "acme", "")
		ok(t, err)
		_, err = w.AddMember(t.Context(), alice, o.ID, "BOB", identity.RoleMember)
		ok(t, err)
		ok(t, w.SetRole(t.Context(), alice, o.ID, "bob", identity.RoleAdmin))
		ok(t, w.RemoveMember(t.Context(), alice, o.ID, "bob"))
		if want := []string{o.ID, o.ID, o.ID, o.ID}; !slices.Equal(heard, want) {
			t.Errorf("heard %v", heard)
		}
		// A transaction that fails later tells nothing.
		heard = nil
		boom := errors.New("boom")
		err = w.db.Tx(t.Context(), func(ctx context.Context) error {
			if _, err := w.AddMember(ctx, alice, o.ID, "bob", identity.RoleMember); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) || len(heard) != 0 {
			t.Errorf("%v, heard %v", err, heard)
		}
		if roster, err := w.MembersOf(t.Context(), o.ID); err != nil || len(roster.Roles) != 1 {
			t.Errorf("%v, %v", roster, err)
		}
	})
}
