package identity_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/sealed"
)

var (
	github = identity.ConnectorInfo{Name: "github", Kind: identity.KindGitHub, Title: "GitHub", SignUp: true}
	gitlab = identity.ConnectorInfo{Name: "gitlab", Kind: identity.KindGitLab, Title: "GitLab", SignUp: true}
	oidc   = identity.ConnectorInfo{Name: "corp", Kind: identity.KindOIDC, Title: "Corp", SignUp: true}
)

// eachSealed is each with a directory that keeps credentials.
func eachSealed(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, sealedWorld(t, db)) }, migrations...)
}

func sealedWorld(t testing.TB, db *database.DB) *world {
	t.Helper()
	w := newWorld(t, db)
	box, err := sealed.New(make([]byte, sealed.KeySize), "identity")
	ok(t, err)
	w.Directory, err = identity.Open(identity.Config{DB: db, Audit: w.audit, Now: w.clock.now, Box: box})
	ok(t, err)
	return w
}

var states struct {
	sync.Mutex
	n int
}

// flow is a flow that has just begun.
func (w *world) flow() identity.Flow {
	states.Lock()
	defer states.Unlock()
	states.n++
	return identity.Flow{State: fmt.Sprint("state-", states.n), Expires: w.clock.now().Add(identity.FlowLife)}
}

func (w *world) arrive(t testing.TB, c identity.ConnectorInfo, x identity.External) identity.SignedIn {
	t.Helper()
	in, err := w.Arrive(t.Context(), c, w.flow(), x)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// fresh is a caller who has just signed in as u.
func (w *world) fresh(t testing.TB, u identity.User) identity.Principal {
	t.Helper()
	secret, _, err := w.CreateSession(t.Context(), u.ID, "email")
	ok(t, err)
	p, err := w.AuthenticateSession(t.Context(), secret)
	ok(t, err)
	return p
}

// refused checks that err is a refusal for a reason that has been recorded once, and
// nothing else has been.
func (w *world) refused(t testing.TB, err error, why string) {
	t.Helper()
	var r *identity.Refusal
	if !errors.As(err, &r) || r.Reason != why {
		t.Fatalf("error is %v, want a refusal for %s", err, why)
	}
	w.audit.mu.Lock()
	entries := w.audit.entries
	w.audit.entries = nil
	w.audit.mu.Unlock()
	if len(entries) != 1 || entries[0].event.Name != "user-login-failed" || entries[0].event.Rule != why || entries[0].event.Decision != audit.Deny {
		t.Fatalf("recorded %+v", entries)
	}
	if again := w.Refused(t.Context(), github, err); again != err || len(w.audit.entries) != 0 { //nolint:errorlint // it must be the very same
		t.Fatalf("recorded twice: %v", again)
	}
}

// backed makes an organization without members, backed as its columns say.
func (w *world) backed(t testing.TB, login, kind, connector, backing string) identity.Organization {
	t.Helper()
	o, err := w.CreateOrganization(t.Context(), identity.Principal{}, login, "")
	ok(t, err)
	if connector == "saml" {
		connector = identity.SAMLConnector(o.ID)
	}
	w.exec(t, "UPDATE organizations SET kind = ?, connector = ?, backing_id = ?, backing_path = ? WHERE id = ?", kind, connector, backing, backing, o.ID)
	return o
}

func saml(o identity.Organization) identity.ConnectorInfo {
	return identity.ConnectorInfo{Name: identity.SAMLConnector(o.ID), Kind: identity.KindSAML, OrganizationID: o.ID, SignUp: true}
}

func (w *world) member(t testing.TB, o identity.Organization, userID string, role identity.Role, source string) {
	t.Helper()
	w.exec(t, "INSERT INTO members (organization_id, user_id, role, created, source) VALUES (?, ?, ?, 1, ?)", o.ID, userID, string(role), source)
}

// roles returns the members of an organization as "login role source".
func (w *world) roles(t testing.TB, o identity.Organization) string {
	t.Helper()
	var rows []struct{ Login, Role, Source string }
	ok(t, w.db.Reader(t.Context()).Raw(`SELECT u.login, m.role, m.source FROM members m JOIN users u ON u.id = m.user_id
		WHERE m.organization_id = ? ORDER BY u.login`, o.ID).Scan(&rows).Error)
	return strings.Trim(fmt.Sprint(rows), "[]")
}

// teams returns the teams of an organization as "name:member,member".
func (w *world) teams(t testing.TB, o identity.Organization) string {
	t.Helper()
	var rows []struct{ Name, Login string }
	ok(t, w.db.Reader(t.Context()).Raw(`SELECT t.name, coalesce(u.login, '') AS login FROM teams t
		LEFT JOIN team_members m ON m.team_id = t.id LEFT JOIN users u ON u.id = m.user_id
		WHERE t.organization_id = ? ORDER BY t.name, u.login`, o.ID).Scan(&rows).Error)
	var out []string
	for i, row := range rows {
		if i > 0 && rows[i-1].Name == row.Name {
			out[len(out)-1] += "," + row.Login
		} else {
			out = append(out, row.Name+":"+row.Login)
		}
	}
	return strings.Join(out, " ")
}

// mapped makes a team of an organization that a group goes with.
func (w *world) mapped(t testing.TB, o identity.Organization, name, connector, group string) {
	t.Helper()
	id := o.ID + name
	w.exec(t, `INSERT INTO teams (id, organization_id, folded, name, display_name, description, kind, created)
		VALUES (?, ?, ?, ?, ?, '', 'oidc', 1) ON CONFLICT DO NOTHING`, id, o.ID, strings.ToLower(name), name, name)
	if group != "" {
		w.exec(t, "INSERT INTO team_groups (organization_id, connector, group_id, group_path, team_id) VALUES (?, ?, ?, ?, ?)", o.ID, connector, group, group, id)
	}
}

func TestArrive(t *testing.T) {
	eachSealed(t, func(t *testing.T, w *world) {
		x := identity.External{
			Subject: "42", Login: "Zoë.Smith@corp", Name: "Zoë \x1b[1mSmith", Email: "Zoe@Example.com", EmailVerified: true,
			AvatarURL: "https://example.com/z.png", Credential: []byte("refresh-token-of-zoe"),
		}
		in := w.arrive(t, github, x)
		want := identity.User{
			ID: in.User.ID, Login: "Zoe-Smith", Name: "Zoë [1mSmith", Email: "zoe@example.com", EmailVerified: true,
			AvatarURL: "https://example.com/z.png", Created: w.clock.now(),
		}
		if !in.Created || in.User != want {
			t.Errorf("arrived as %+v, want %+v", in.User, want)
		}
		if stored, err := w.User(t.Context(), in.User.ID); err != nil || stored != want {
			t.Errorf("stored is %+v, %v", stored, err)
		}
		p, err := w.AuthenticateSession(t.Context(), in.Secret)
		ok(t, err)
		if p.UserID != in.User.ID || p.Connector != "github" || !p.SignedIn.Equal(w.clock.now()) || p.SessionID != in.Session.ID {
			t.Errorf("principal is %+v", p)
		}
		if got, want := w.audit.take(), []string{"user-created user:Zoe-Smith", "user-login user:Zoe-Smith"}; !slices.Equal(got, want) {
			t.Errorf("recorded %v", got)
		}
		if strings.Contains(dump(t, w.db), "refresh-token-of-zoe") {
			t.Error("the credential is stored as it came")
		}

		// The profile follows; what the provider does not say, or nobody could use, stays.
		w.clock.advance(time.Minute)
		x.Name, x.Email, x.AvatarURL, x.EmailVerified = "Zoe", "no address", "javascript:x", false
		again := w.arrive(t, github, x)
		want.Name = "Zoe"
		if again.Created || again.User != want || again.Secret == in.Secret {
			t.Errorf("came back as %+v", again.User)
		}
		if got, want := w.audit.take(), []string{"user-updated user:Zoe-Smith", "user-login user:Zoe-Smith"}; !slices.Equal(got, want) {
			t.Errorf("recorded %v", got)
		}
		w.arrive(t, github, x)
		if got, want := w.audit.take(), []string{"user-login user:Zoe-Smith"}; !slices.Equal(got, want) {
			t.Errorf("recorded %v", got)
		}
		x.Email = "new@example.com"
		if u := w.arrive(t, github, x).User; u.Email != "new@example.com" || u.EmailVerified {
			t.Errorf("came back as %+v", u)
		}
		if h := w.Health("github"); !h.Arrived.Equal(w.clock.now()) || h.Failure != "" {
			t.Errorf("health is %+v", h)
		}
	})
}

func TestSessionEndsWithTheProviders(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		end := w.clock.now().Add(time.Hour)
		in := w.arrive(t, github, identity.External{Subject: "1", Login: "alice", Expires: end})
		if !in.Session.Expires.Equal(end) {
			t.Errorf("ends at %v, want %v", in.Session.Expires, end)
		}
		w.clock.advance(time.Hour)
		_, err := w.AuthenticateSession(t.Context(), in.Secret)
		reason(t, err, identity.SessionExpired)
		w.audit.take()
		_, err = w.Arrive(t.Context(), github, w.flow(), identity.External{Subject: "1", Expires: end})
		w.refused(t, err, identity.ExternalExpired)
		in = w.arrive(t, github, identity.External{Subject: "1", Expires: end.Add(1000 * time.Hour)})
		if !in.Session.Expires.Equal(end.Add(identity.AbsoluteTimeout)) {
			t.Errorf("ends at %v", in.Session.Expires)
		}
	})
}

func TestLoginsOfArrivals(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for i, c := range []struct{ login, email, want string }{
			{"alice", "", "alice"},
			{"Alice", "", "Alice-2"},
			{"", "alice@example.com", "alice-3"},
			{"o'neil van.der", "", "o-neil-van-der"},
			{"user", "", "user-2"}, // reserved
			{"", "", "member"},
			{"_--", "日本@example.com", "member-2"},
			{"ÅÉ\u0130", "", "AEI"},
			{strings.Repeat("x", 80), "", strings.Repeat("x", 39)},
			{strings.Repeat("x", 80), "", strings.Repeat("x", 37) + "-2"},
			{"a\x00b", "", "ab"},
		} {
			in := w.arrive(t, github, identity.External{Subject: fmt.Sprint(i), Login: c.login, Email: c.email})
			if in.User.Login != c.want {
				t.Errorf("%q, %q is %q, want %q", c.login, c.email, in.User.Login, c.want)
			}
		}
		// However many have the same name, and whoever holds the guesses.
		for i := range 60 {
			w.arrive(t, github, identity.External{Subject: fmt.Sprint("bob", i), Login: "bob"})
		}
	})
}

// OAU-11, OAU-12, OAU-13, OAU-15, OAU-16: an address never leads into an account.
func TestAddressesLinkNobody(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		victim, err := w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{
			Login: "victim", Email: "victim@example.com", Identity: identity.Identity{Connector: "email", Subject: "victim@example.com"},
		})
		ok(t, err)
		ok(t, w.SetEmail(t.Context(), identity.Principal{}, victim.ID, "victim@example.com", true))
		seen := map[string]bool{victim.ID: true}
		for name, c := range map[string]struct {
			c identity.ConnectorInfo
			x identity.External
		}{
			"unverified address":                {github, identity.External{Subject: "7", Login: "victim", Email: "victim@example.com"}},
			"verified address":                  {github, identity.External{Subject: "8", Login: "victim", Email: "victim@example.com", EmailVerified: true}},
			"the same ID at another instance":   {gitlab, identity.External{Subject: "7", Login: "victim", Email: "victim@example.com"}},
			"an address for a subject":          {oidc, identity.External{Subject: "victim@example.com", Email: "victim@example.com", EmailVerified: true}},
			"an ID that differs in case only":   {oidc, identity.External{Subject: "Victim@example.com", Email: "victim@example.com", EmailVerified: true}},
			"an ID that differs by white space": {oidc, identity.External{Subject: "victim@example.com ", Email: "victim@example.com"}},
		} {
			in := w.arrive(t, c.c, c.x)
			if !in.Created || seen[in.User.ID] {
				t.Errorf("%s leads to somebody: %+v", name, in.User)
			}
			if in.User.EmailVerified != c.x.EmailVerified {
				t.Errorf("%s: verified is %v", name, in.User.EmailVerified)
			}
			seen[in.User.ID] = true
		}
		// What somebody prepared under the victim's address is not what the victim gets.
		attacker, err := w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "attacker", Email: "late@example.com", Identity: identity.Identity{Connector: "email", Subject: "late@example.com"}})
		ok(t, err)
		secret, _, err := w.CreateSession(t.Context(), attacker.ID, "email")
		ok(t, err)
		in := w.arrive(t, oidc, identity.External{Subject: "late", Email: "late@example.com", EmailVerified: true})
		p, err := w.AuthenticateSession(t.Context(), secret)
		if err != nil || p.UserID == in.User.ID || in.User.ID == attacker.ID {
			t.Errorf("the attacker is in the victim's account: %+v, %v", p, err)
		}
	})
}

func TestArrivalsRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.arrive(t, github, identity.External{Subject: "known", Login: "known"})
		disabled := w.arrive(t, github, identity.External{Subject: "disabled", Login: "disabled"})
		ok(t, w.Disable(t.Context(), identity.Principal{}, disabled.User.ID))
		acme := w.backed(t, "acme", "saml", "saml", "")
		managed := w.arrive(t, saml(acme), identity.External{Subject: "managed", Login: "managed"})
		w.exec(t, "INSERT INTO identities (connector, subject, user_id, created) VALUES ('github', 'managed', ?, 1)", managed.User.ID)
		plain, gone := w.backed(t, "plain", "pulumi", "", ""), w.backed(t, "gone", "saml", "saml", "")
		sso := w.backed(t, "single", "pulumi", "", "")
		w.exec(t, "UPDATE organizations SET sso = TRUE WHERE id = ?", sso.ID)
		closed, used := github, w.flow()
		closed.SignUp = false
		_, err := w.Arrive(t.Context(), github, used, identity.External{Subject: "known", Once: []identity.Once{{Key: "assertion"}}})
		ok(t, err)
		w.arrive(t, saml(gone), identity.External{Subject: "known"})
		w.exec(t, "UPDATE organizations SET deleted = 1 WHERE id = ?", gone.ID) // SAML-44
		late := w.flow()
		late.Expires = w.clock.now()
		before := dump(t, w.db)
		w.audit.take()
		for name, c := range map[string]struct {
			c    identity.ConnectorInfo
			f    identity.Flow
			x    identity.External
			want string
		}{
			"no flow":             {github, identity.Flow{Expires: w.clock.now().Add(time.Hour)}, identity.External{Subject: "known"}, identity.FlowUnknown},
			"late":                {github, late, identity.External{Subject: "known"}, identity.FlowExpired},
			"flow again":          {github, used, identity.External{Subject: "known"}, identity.FlowUsed},
			"assertion again":     {github, w.flow(), identity.External{Subject: "known", Once: []identity.Once{{Key: "fresh"}, {Key: "assertion"}}}, identity.Replayed},
			"sign-up is off":      {closed, w.flow(), identity.External{Subject: "new"}, identity.SignUpOff},
			"disabled":            {github, w.flow(), identity.External{Subject: "disabled"}, identity.UserDisabled},
			"managed elsewhere":   {github, w.flow(), identity.External{Subject: "managed"}, identity.ManagedElsewhere},
			"organization gone":   {saml(gone), w.flow(), identity.External{Subject: "known"}, identity.OrganizationGone},
			"no organization":     {saml(identity.Organization{ID: "x"}), w.flow(), identity.External{Subject: "known"}, identity.OrganizationGone},
			"not backed":          {saml(plain), w.flow(), identity.External{Subject: "new"}, identity.ConnectorOff},
			"not backed, sign-up": {saml(sso), w.flow(), identity.External{Subject: "new"}, identity.SignUpOff},
			"empty subject":       {github, w.flow(), identity.External{Login: "known"}, identity.ExternalInvalid},
			"subject with NUL":    {github, w.flow(), identity.External{Subject: "known\x00"}, identity.ExternalInvalid},
			"subject no text":     {github, w.flow(), identity.External{Subject: "\xff"}, identity.ExternalInvalid},
			"long subject":        {github, w.flow(), identity.External{Subject: strings.Repeat("k", 513)}, identity.ExternalInvalid},
		} {
			in, err := w.Arrive(t.Context(), c.c, c.f, c.x)
			if err == nil || in != (identity.SignedIn{}) {
				t.Errorf("%s: arrived as %+v", name, in)
				continue
			}
			reason(t, err, c.want)
			w.refused(t, err, c.want)
		}
		if after := withoutAudit(dump(t, w.db)); after != withoutAudit(before) {
			t.Errorf("a refusal has changed something:\n%s\n%s", before, after)
		}
	})
}

// withoutAudit leaves the audit log out of a dump.
func withoutAudit(dump string) string {
	var out strings.Builder
	for line := range strings.Lines(dump) {
		if !strings.HasPrefix(line, "audit_") && !strings.HasPrefix(line, "migrations") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// SAML-25: of 50 arrivals with the same assertion at the same moment one is let in, by
// whichever browser.
func TestOneOfManyArrives(t *testing.T) {
	for _, c := range []struct {
		name     string
		sameFlow bool
		want     string
	}{{"one browser", true, identity.FlowUsed}, {"many browsers", false, identity.Replayed}} {
		t.Run(c.name, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				acme := w.backed(t, "acme", "saml", "saml", "")
				w.audit.take()
				f := w.flow()
				errors := make([]error, 50)
				var group sync.WaitGroup
				start := make(chan bool)
				for i := range errors {
					flow := f
					if !c.sameFlow {
						flow = w.flow()
					}
					group.Go(func() {
						<-start
						_, errors[i] = w.Arrive(context.Background(), saml(acme), flow, identity.External{
							Subject: "alice", Login: "alice", Once: []identity.Once{{Key: "assertion-1", Until: w.clock.now().Add(time.Minute)}},
						})
					})
				}
				close(start)
				group.Wait()
				arrived := 0
				for _, err := range errors {
					if err == nil {
						arrived++
						continue
					}
					reason(t, err, c.want)
				}
				var sessions, users int64
				ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM sessions").Scan(&sessions).Error)
				ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM users").Scan(&users).Error)
				if arrived != 1 || sessions != 1 || users != 1 {
					t.Errorf("%d arrived, %d sessions, %d users", arrived, sessions, users)
				}
			})
		})
	}
}

// Several first arrivals of one person, in several tabs, are one account.
func TestFirstArrivalsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ins := make([]identity.SignedIn, 8)
		var group sync.WaitGroup
		for i := range ins {
			flow := w.flow()
			group.Go(func() {
				var err error
				if ins[i], err = w.Arrive(context.Background(), github, flow, identity.External{Subject: "1", Login: "alice"}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		created := 0
		for _, in := range ins {
			if in.User.ID != ins[0].User.ID || in.User.Login != "alice" {
				t.Errorf("arrived as %+v", in.User)
			}
			if in.Created {
				created++
			}
		}
		if created != 1 {
			t.Errorf("created %d times", created)
		}
	})
}

// SES-05: the accounts of an organization go with it, at once, and come back with it.
func TestManagedAccountsGoWithTheirOrganization(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "saml", "saml", "")
		in := w.arrive(t, saml(acme), identity.External{Subject: "alice", Login: "alice"})
		if in.User.ManagedBy != acme.ID || w.roles(t, acme) != "{alice member saml:"+acme.ID+"}" {
			t.Errorf("arrived as %+v in %s", in.User, w.roles(t, acme))
		}
		p, err := w.AuthenticateSession(t.Context(), in.Secret)
		if err != nil || p.ManagedBy != acme.ID {
			t.Errorf("%+v, %v", p, err)
		}
		_, token, err := w.CreateToken(t.Context(), p, identity.TokenRequest{})
		ok(t, err)
		barred := w.arrive(t, saml(acme), identity.External{Subject: "bob", Login: "bob"})
		ok(t, w.Disable(t.Context(), identity.Principal{}, barred.User.ID))
		ok(t, w.DeleteOrganization(t.Context(), identity.Principal{}, acme.ID))
		_, err = w.AuthenticateSession(t.Context(), in.Secret)
		reason(t, err, identity.UserDisabled)
		_, err = w.AuthenticateToken(t.Context(), token)
		reason(t, err, identity.UserDisabled)
		ok(t, w.RestoreOrganization(t.Context(), identity.Principal{}, acme.ID))
		_, err = w.AuthenticateSession(t.Context(), in.Secret)
		reason(t, err, identity.SessionEnded)
		if p, err = w.AuthenticateToken(t.Context(), token); err != nil || p.ManagedBy != acme.ID {
			t.Errorf("%+v, %v", p, err)
		}
		if u, err := w.User(t.Context(), barred.User.ID); err != nil || u.DisabledBy != "admin" {
			t.Errorf("%+v, %v", u, err)
		}
	})
}

// SES-01, SES-02: every sign-in is a session of its own, and an ended one stays so.
func TestSessionsAreNotAdopted(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		one := w.arrive(t, github, identity.External{Subject: "1", Login: "alice"})
		two := w.arrive(t, github, identity.External{Subject: "1", Login: "alice"})
		if one.Secret == two.Secret || one.Session.ID == two.Session.ID {
			t.Error("two sign-ins share a session")
		}
		p, err := w.AuthenticateSession(t.Context(), one.Secret)
		ok(t, err)
		ok(t, w.EndSession(t.Context(), p))
		w.arrive(t, github, identity.External{Subject: "1", Login: "alice"})
		_, err = w.AuthenticateSession(t.Context(), one.Secret)
		reason(t, err, identity.SessionEnded)
		_, err = w.AuthenticateSession(t.Context(), two.Secret)
		ok(t, err)
		ok(t, w.Disable(t.Context(), identity.Principal{}, one.User.ID))
		_, err = w.AuthenticateSession(t.Context(), two.Secret)
		reason(t, err, identity.UserDisabled)
		ok(t, w.Enable(t.Context(), identity.Principal{}, one.User.ID))
		_, err = w.AuthenticateSession(t.Context(), two.Secret)
		reason(t, err, identity.SessionEnded)
	})
}

func BenchmarkAuthenticateSession(b *testing.B) {
	w := newWorld(b, databasetest.SQLite(b, migrations...))
	in := w.arrive(b, github, identity.External{Subject: "1", Login: "alice"})
	for b.Loop() {
		if _, err := w.AuthenticateSession(b.Context(), in.Secret); err != nil {
			b.Fatal(err)
		}
	}
}

func newSQLite(b *testing.B) *world { return sealedWorld(b, databasetest.SQLite(b, migrations...)) }

// count has fn called for every statement from now on; nil ends it.
func (w *world) count(fn func()) {
	for _, db := range []*gorm.DB{w.db.Conn(context.Background()), w.db.Reader(context.Background())} {
		for _, p := range []interface {
			Replace(name string, fn func(*gorm.DB)) error
		}{
			db.Callback().Create().Before("*"), db.Callback().Query().Before("*"), db.Callback().Update().Before("*"),
			db.Callback().Delete().Before("*"), db.Callback().Row().Before("*"), db.Callback().Raw().Before("*"),
		} {
			_ = p.Replace("count", func(*gorm.DB) {
				if fn != nil {
					fn()
				}
			})
		}
	}
}
