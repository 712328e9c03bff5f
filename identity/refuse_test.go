package identity_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "saml", "saml", "")
		alice := w.user(t, "alice")
		w.audit.take()
		unavailable := errs.Wrap(errs.Unavailable, errors.New("dial tcp: secret"), "the provider does not answer")
		if err := w.Refused(t.Context(), github, unavailable); err != unavailable { //nolint:errorlint // the very same
			t.Errorf("Refused returns %v", err)
		}
		if h := w.Health("github"); h.Failure != "the provider does not answer" || !h.Failed.Equal(w.clock.now()) {
			t.Errorf("health is %+v", h)
		}
		if got := w.audit.take(); len(got) != 0 {
			t.Errorf("recorded %v", got)
		}
		for name, c := range map[string]struct {
			c             identity.ConnectorInfo
			err           error
			log, rule     string
			object, actor string
			detail        string
		}{
			"known":    {github, withDetail(identity.Refuse(identity.NotAMember, alice, "no"), "not in acme\x1b"), audit.Site, "not_a_member", "user:alice", audit.User, "not in acme"},
			"unknown":  {saml(acme), identity.Refuse("signature_wrong", identity.Principal{}, "no"), acme.ID, "signature_wrong", "user", audit.Anonymous, ""},
			"internal": {github, errors.New("secret"), audit.Site, "internal", "user", audit.Anonymous, ""},
			"no kind":  {github, errs.Errorf(errs.Conflict, "secret"), audit.Site, "internal", "user", audit.Anonymous, ""},
		} {
			err := w.Refused(t.Context(), c.c, c.err)
			kind(t, err, errs.Unauthenticated)
			if strings.Contains(errs.Public(err), "secret") || !errors.Is(err, c.err) {
				t.Errorf("%s: returns %v", name, err)
			}
			if len(w.audit.entries) != 1 {
				t.Fatalf("%s: recorded %+v", name, w.audit.entries)
			}
			e := w.audit.entries[0]
			if e.log != c.log || e.event.Rule != c.rule || e.event.Object != c.object || e.event.Actor.Kind != c.actor ||
				e.event.Connector != c.c.Name || e.event.Details["detail"] != c.detail || strings.Contains(fmt.Sprint(e), "secret") {
				t.Errorf("%s: recorded %+v", name, e)
			}
			w.audit.take()
			if again := w.Refused(t.Context(), c.c, fmt.Errorf("wrapped: %w", err)); !errors.Is(again, err) || len(w.audit.take()) != 0 {
				t.Errorf("%s is recorded twice", name)
			}
		}
		w.audit.fail = func() error { return unavailable }
		kind(t, w.Refused(t.Context(), github, identity.Refuse("x", alice, "no")), errs.Unavailable)
	})
}

func withDetail(r *identity.Refusal, detail string) *identity.Refusal {
	r.Detail = detail
	return r
}

func TestConsume(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		until := w.clock.now().Add(time.Hour)
		key := strings.Repeat("k", 5000) + "\x00\xff"
		ok(t, w.Consume(t.Context(), key, until))
		kind(t, w.Consume(t.Context(), key, until), errs.Conflict)
		ok(t, w.Consume(t.Context(), key+"x", until))
		kind(t, w.Consume(t.Context(), "", until), errs.Invalid)
		w.clock.advance(time.Hour - time.Microsecond)
		kind(t, w.Consume(t.Context(), key, until), errs.Conflict)
		w.clock.advance(time.Microsecond)
		ok(t, w.Consume(t.Context(), key, until.Add(time.Hour)))
		kind(t, w.Consume(t.Context(), key, until), errs.Conflict)
		// A time that is over already does not make a key that is never used up.
		ok(t, w.Consume(t.Context(), "past", time.Time{}))
		kind(t, w.Consume(t.Context(), "past", time.Time{}), errs.Conflict)
		// It is undone with the transaction, and a conflict does not spoil that.
		boom := errors.New("boom")
		err := w.db.Tx(t.Context(), func(ctx context.Context) error {
			kind(t, w.Consume(ctx, "past", time.Time{}), errs.Conflict)
			ok(t, w.Consume(ctx, "undone", until.Add(time.Hour)))
			return boom
		})
		if !errors.Is(err, boom) {
			t.Error(err)
		}
		ok(t, w.Consume(t.Context(), "undone", until.Add(time.Hour)))
		w.clock.advance(100 * time.Hour)
		if n, err := w.Sweep(t.Context()); err != nil || n != 4 {
			t.Errorf("swept %d, %v", n, err)
		}
	})
}

func TestSSO(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "saml", "saml", "")
		in := w.arrive(t, saml(acme), identity.External{Subject: "alice", Login: "alice"})
		short := w.arrive(t, saml(acme), identity.External{Subject: "bob", Login: "bob", Expires: w.clock.now().Add(time.Hour)})
		carol := w.user(t, "carol")
		is := func(userID string, want identity.SSOState) {
			t.Helper()
			if got, err := w.SSO(t.Context(), acme.ID, userID); err != nil || got != want {
				t.Errorf("SSO is %v, %v, want %v", got, err, want)
			}
		}
		is(in.User.ID, identity.SSOAlive)
		is(short.User.ID, identity.SSOAlive)
		is(carol.UserID, identity.SSONever)
		is("", identity.SSONever)
		w.clock.advance(time.Hour)
		is(short.User.ID, identity.SSOExpired)
		w.clock.advance(identity.SSOLife - time.Hour - time.Microsecond)
		is(in.User.ID, identity.SSOAlive)
		w.clock.advance(time.Microsecond)
		is(in.User.ID, identity.SSOExpired)
		w.exec(t, "UPDATE organizations SET break_glass = ? WHERE id = ?", carol.UserID, acme.ID)
		is(carol.UserID, identity.SSOAlive)
		is(in.User.ID, identity.SSOExpired)
		w.exec(t, "UPDATE organizations SET deleted = 1 WHERE id = ?", acme.ID)
		_, err := w.SSO(t.Context(), acme.ID, carol.UserID)
		kind(t, err, errs.NotFound)
	})
}

// Without a clock to steer, single sign-on and rechecks go by the database's own.
func TestSignInByTheDatabasesClock(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		w := newWorld(t, db)
		var err error
		w.Directory, err = identity.Open(identity.Config{DB: db, Audit: w.audit})
		ok(t, err)
		acme := w.backed(t, "acme", "saml", "saml", "")
		f := identity.Flow{State: "s", Expires: time.Now().Add(time.Minute)}
		in, err := w.Arrive(t.Context(), saml(acme), f, identity.External{Subject: "alice", Login: "alice"})
		ok(t, err)
		if state, err := w.SSO(t.Context(), acme.ID, in.User.ID); err != nil || state != identity.SSOAlive {
			t.Errorf("SSO is %v, %v", state, err)
		}
		p, err := w.AuthenticateSession(t.Context(), in.Secret)
		ok(t, err)
		ok(t, w.RequireFresh(t.Context(), p))
		w.exec(t, "UPDATE sso_sessions SET expires = ?", time.Now().Add(-time.Second).UnixMicro())
		if state, err := w.SSO(t.Context(), acme.ID, in.User.ID); err != nil || state != identity.SSOExpired {
			t.Errorf("SSO is %v, %v", state, err)
		}
		ok(t, w.RecheckAll(t.Context(), nil))
	}, migrations...)
}
