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

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestRequireFresh(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		in := w.arrive(t, github, identity.External{Subject: "1", Login: "alice"})
		p, err := w.AuthenticateSession(t.Context(), in.Secret)
		ok(t, err)
		_, token, err := w.CreateToken(t.Context(), p, identity.TokenRequest{})
		ok(t, err)
		byToken, err := w.AuthenticateToken(t.Context(), token)
		ok(t, err)
		w.clock.advance(identity.StepUpWithin)
		// Using a session does not make it younger.
		p, err = w.AuthenticateSession(t.Context(), in.Secret)
		ok(t, err)
		ok(t, w.RequireFresh(t.Context(), p))
		w.clock.advance(time.Microsecond)
		for name, p := range map[string]identity.Principal{
			"old": p, "token": byToken, "nobody": {}, "user": in.User.Principal("github"),
			"no time": {UserID: p.UserID, SessionID: p.SessionID}, "no session": {UserID: p.UserID, SignedIn: w.clock.now()},
		} {
			if err := w.RequireFresh(t.Context(), p); !errors.Is(err, identity.ErrStepUp) || errs.KindOf(err) != errs.Forbidden {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// OAU-17 and the rest of what linking refuses. Nothing is changed by any of it.
func TestLinksRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "saml", "saml", "")
		plain := w.backed(t, "plain", "pulumi", "", "")
		gone := w.backed(t, "gone", "pulumi", "", "")
		alice, bob := w.fresh(t, w.newUser(t, "alice")), w.fresh(t, w.newUser(t, "bob"))
		barred := w.fresh(t, w.newUser(t, "barred"))
		ok(t, w.Disable(t.Context(), identity.Principal{}, barred.UserID))
		w.member(t, gone, alice.UserID, identity.RoleAdmin, "")
		w.exec(t, "UPDATE organizations SET deleted = 1 WHERE id = ?", gone.ID)
		ok(t, w.Link(t.Context(), bob, github, w.flow(), identity.External{Subject: "bob"}))
		in := w.arrive(t, saml(acme), identity.External{Subject: "managed", Login: "managed"})
		managed, err := w.AuthenticateSession(t.Context(), in.Secret)
		ok(t, err)
		old := alice
		old.SignedIn = old.SignedIn.Add(-identity.StepUpWithin - time.Second)
		used := w.flow()
		w.arrive(t, github, identity.External{Subject: "x", Login: "x"})
		_, err = w.Arrive(t.Context(), github, used, identity.External{Subject: "x"})
		ok(t, err)
		before := dump(t, w.db)
		w.audit.take()
		for name, c := range map[string]struct {
			p      identity.Principal
			c      identity.ConnectorInfo
			f      identity.Flow
			x      identity.External
			kind   errs.Kind
			reason string
		}{
			"long ago":             {old, github, w.flow(), identity.External{Subject: "new"}, errs.Forbidden, identity.NotFresh},
			"not a session":        {in.User.Principal("github"), github, w.flow(), identity.External{Subject: "new"}, errs.Forbidden, identity.NotFresh},
			"somebody else's":      {alice, github, w.flow(), identity.External{Subject: "bob"}, errs.Conflict, identity.IdentityElsewhere},
			"managed":              {managed, github, w.flow(), identity.External{Subject: "new"}, errs.Forbidden, identity.ManagedElsewhere},
			"managed, same":        {managed, saml(acme), w.flow(), identity.External{Subject: "new"}, errs.Forbidden, identity.ManagedElsewhere},
			"disabled":             {barred, github, w.flow(), identity.External{Subject: "new"}, errs.Forbidden, identity.UserDisabled},
			"no member":            {alice, saml(plain), w.flow(), identity.External{Subject: "new"}, errs.Forbidden, identity.NotAMember},
			"organization is gone": {alice, saml(gone), w.flow(), identity.External{Subject: "new"}, errs.Unauthenticated, identity.OrganizationGone},
			"flow again":           {alice, github, used, identity.External{Subject: "new"}, errs.Unauthenticated, identity.FlowUsed},
			"no subject":           {alice, github, w.flow(), identity.External{}, errs.Unauthenticated, identity.ExternalInvalid},
		} {
			err := w.Link(t.Context(), c.p, c.c, c.f, c.x)
			if errs.KindOf(err) != c.kind {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if (c.reason == identity.NotFresh) != errors.Is(err, identity.ErrStepUp) {
				t.Errorf("%s: %v", name, err)
			}
			w.refused(t, err, c.reason)
		}
		if after := dump(t, w.db); withoutAudit(after) != withoutAudit(before) {
			t.Errorf("a refusal has changed something:\n%s\n%s", withoutAudit(before), withoutAudit(after))
		}
	})
}

func (w *world) newUser(t testing.TB, login string) identity.User {
	t.Helper()
	u, err := w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{
		Login: login, Email: login + "@example.com", Identity: identity.Identity{Connector: "email", Subject: login + "@example.com"},
	})
	ok(t, err)
	return u
}

func TestLinkAndUnlink(t *testing.T) {
	eachSealed(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "saml", "saml", "")
		alice := w.newUser(t, "alice")
		p := w.fresh(t, alice)
		w.member(t, acme, alice.ID, identity.RoleAdmin, "")
		w.audit.take()
		x := identity.External{Subject: "7", Login: "alice-gh", Name: "Other", Email: "other@example.com", EmailVerified: true, Credential: []byte("t"), Groups: groups("a")}
		ok(t, w.Link(t.Context(), p, github, w.flow(), x))
		ok(t, w.Link(t.Context(), p, github, w.flow(), x))
		ok(t, w.Link(t.Context(), p, saml(acme), w.flow(), identity.External{Subject: "saml-alice"}))
		if got, want := w.audit.take(), []string{
			"user-added-new-identity-to-their-account user:alice",
			"user-added-new-identity-to-their-account user:alice", "user-added-new-identity-to-their-account user:alice", // both logs
		}; !slices.Equal(got, want) {
			t.Errorf("recorded %v", got)
		}
		if state, err := w.SSO(t.Context(), acme.ID, alice.ID); err != nil || state != identity.SSOAlive {
			t.Errorf("SSO is %v, %v", state, err)
		}
		linked, err := w.LinkedIdentities(t.Context(), alice.ID)
		ok(t, err)
		now := w.clock.now()
		if len(linked) != 3 || linked[0].Connector != "email" || linked[0].Email != "alice@example.com" || !linked[0].Checked.IsZero() || !linked[0].Used.Equal(now) ||
			linked[1].Connector != "github" || linked[1].Login != "alice-gh" || linked[1].Email != "other@example.com" || !linked[1].Checked.Equal(now) ||
			len(linked[1].Groups) != 1 || linked[1].Groups[0] != groups("a")[0] {
			t.Errorf("linked are %+v", linked)
		}
		// A linked identity signs in; the profile is nobody's but the user's own.
		in := w.arrive(t, github, x)
		if in.Created || in.User.ID != alice.ID || in.User.Name != "alice" || in.User.Email != "alice@example.com" || in.User.EmailVerified {
			t.Errorf("arrived as %+v", in.User)
		}
		bySAML := w.arrive(t, saml(acme), identity.External{Subject: "saml-alice", Name: "Evil", Email: "evil@example.com", EmailVerified: true})
		if bySAML.User.ID != alice.ID || bySAML.User.ManagedBy != "" {
			t.Errorf("arrived as %+v", bySAML.User)
		}

		ok(t, w.Unlink(t.Context(), p, identity.Identity{Connector: "github", Subject: "7"}))
		_, err = w.AuthenticateSession(t.Context(), in.Secret)
		reason(t, err, identity.SessionEnded)
		_, err = w.AuthenticateSession(t.Context(), bySAML.Secret)
		ok(t, err)
		kind(t, w.Unlink(t.Context(), p, identity.Identity{Connector: "github", Subject: "7"}), errs.NotFound)
		if in := w.arrive(t, github, x); !in.Created || in.User.ID == alice.ID {
			t.Errorf("an identity that was unlinked signs in: %+v", in.User)
		}
		ok(t, w.Unlink(t.Context(), p, identity.Identity{Connector: "email", Subject: "alice@example.com"}))
		kind(t, w.Unlink(t.Context(), p, identity.Identity{Connector: saml(acme).Name, Subject: "saml-alice"}), errs.Conflict)
		// The provider of an organization does not own the profile of who is not managed.
		last := w.arrive(t, saml(acme), identity.External{Subject: "saml-alice", Name: "Evil", Email: "evil@example.com", EmailVerified: true})
		if last.User.Name != "alice" || last.User.Email != "alice@example.com" || last.User.EmailVerified {
			t.Errorf("arrived as %+v", last.User)
		}
		old := p
		old.SignedIn = old.SignedIn.Add(-time.Hour)
		if err := w.Unlink(t.Context(), old, identity.Identity{Connector: "email", Subject: "alice@example.com"}); !errors.Is(err, identity.ErrStepUp) {
			t.Error(err)
		}
		managed := w.arrive(t, saml(acme), identity.External{Subject: "bob", Login: "bob"})
		q, err := w.AuthenticateSession(t.Context(), managed.Secret)
		ok(t, err)
		kind(t, w.Unlink(t.Context(), q, identity.Identity{Connector: saml(acme).Name, Subject: "bob"}), errs.Forbidden)
		kind(t, w.Unlink(t.Context(), w.fresh(t, w.newUser(t, "carol")), identity.Identity{Connector: saml(acme).Name, Subject: "bob"}), errs.NotFound)
	})
}

// One that is withdrawn is no way to sign in.
func TestLastWayToSignInStays(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.newUser(t, "alice")
		p := w.fresh(t, alice)
		ok(t, w.Link(t.Context(), p, github, w.flow(), identity.External{Subject: "1"}))
		w.exec(t, "UPDATE identities SET withdrawn = 1 WHERE connector = 'github'")
		kind(t, w.Unlink(t.Context(), p, identity.Identity{Connector: "email", Subject: "alice@example.com"}), errs.Conflict)
		ok(t, w.Unlink(t.Context(), p, identity.Identity{Connector: "github", Subject: "1"}))
		// Of several at the same moment one stays.
		for i := range 6 {
			ok(t, w.Link(t.Context(), p, github, w.flow(), identity.External{Subject: fmt.Sprint(i)}))
		}
		identities, err := w.Identities(t.Context(), alice.ID)
		ok(t, err)
		var group sync.WaitGroup
		for _, i := range identities {
			group.Go(func() {
				if err := w.Unlink(context.Background(), p, i); err != nil && errs.KindOf(err) != errs.Conflict {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if left, err := w.Identities(t.Context(), alice.ID); err != nil || len(left) != 1 {
			t.Errorf("%v are left, %v", left, err)
		}
	})
}

func TestMoveIdentity(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.newUser(t, "alice")
		w.newUser(t, "bob")
		old := identity.Identity{Connector: "email", Subject: "alice@example.com"}
		kind(t, w.MoveIdentity(t.Context(), alice.ID, old, "bob@example.com"), errs.Conflict)
		kind(t, w.MoveIdentity(t.Context(), alice.ID, identity.Identity{Connector: "email", Subject: "bob@example.com"}, "x@example.com"), errs.NotFound)
		kind(t, w.MoveIdentity(t.Context(), alice.ID, old, strings.Repeat("x", 600)), errs.Invalid)
		ok(t, w.MoveIdentity(t.Context(), alice.ID, old, "alice@new.example.com"))
		ok(t, w.MoveIdentity(t.Context(), alice.ID, old, "alice@new.example.com"))
		if u, err := w.UserByEmail(t.Context(), "alice@new.example.com"); err != nil || u.ID != alice.ID {
			t.Errorf("%+v, %v", u, err)
		}
		_, err := w.UserByEmail(t.Context(), "alice@example.com")
		kind(t, err, errs.NotFound)
	})
}
