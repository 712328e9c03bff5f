package identity_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

var first = identity.First{Login: "admin", Name: "Ada", Email: "Ada@Example.com", Organization: "acme"}

func TestSetup(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		old, err := w.SetupCode(t.Context())
		ok(t, err)
		code, err := w.SetupCode(t.Context())
		ok(t, err)
		if code == old || len(code) < 32 {
			t.Fatalf("codes %q and %q", old, code)
		}
		for _, wrong := range []string{"", old, code[1:], code + " ", strings.ToLower(code), "x"} {
			_, _, err := w.CreateFirst(t.Context(), wrong, first)
			kind(t, err, errs.Forbidden)
			kind(t, w.CheckSetupCode(t.Context(), wrong), errs.Forbidden)
			if wrong != "" && wrong != "x" && strings.Contains(err.Error(), wrong) {
				t.Errorf("the error has the code in it: %v", err)
			}
		}
		ok(t, w.CheckSetupCode(t.Context(), code))
		// What fails for another reason leaves the code good.
		_, _, err = w.CreateFirst(t.Context(), code, identity.First{Login: "admin", Email: "ada@example.com", Organization: "api"})
		kind(t, err, errs.Invalid)
		w.audit.take()
		user, o, err := w.CreateFirst(t.Context(), code, first)
		ok(t, err)
		if !user.SiteAdmin || user.Email != "ada@example.com" || o.Login != "acme" {
			t.Errorf("%+v, %+v", user, o)
		}
		roster, err := w.MembersOf(t.Context(), o.ID)
		if err != nil || roster.Roles[user.ID] != identity.RoleAdmin {
			t.Errorf("%+v, %v", roster, err)
		}
		if got, want := w.audit.take(), []string{
			"user-created user:admin", "organization-created acme", "organization-created acme", "member-added user:admin", "site-setup-completed site",
		}; !slices.Equal(got, want) {
			t.Errorf("recorded %v", got)
		}
		for _, again := range []string{code, "x", ""} {
			_, _, err := w.CreateFirst(t.Context(), again, identity.First{Login: "eve", Email: "e@example.com", Organization: "evil"})
			kind(t, err, errs.NotFound)
			kind(t, w.CheckSetupCode(t.Context(), again), errs.NotFound)
		}
		_, _, err = w.Bootstrap(t.Context(), identity.First{Login: "eve", Email: "e@example.com", Organization: "evil"})
		kind(t, err, errs.Conflict)
		if code, err := w.SetupCode(t.Context()); err != nil || code != "" {
			t.Errorf("a code after the set-up: %q, %v", code, err)
		}
	})
}

func TestSetupCodeIsStoredAsHash(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		code, err := w.SetupCode(t.Context())
		ok(t, err)
		var row struct{ Code []byte }
		ok(t, w.db.Reader(t.Context()).Raw("SELECT code FROM setup").Scan(&row).Error)
		stored := row.Code
		if len(stored) != 32 || strings.Contains(string(stored), code) {
			t.Errorf("stored is %q", stored)
		}
	})
}

func TestNoSetupOnceThereIsAUser(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		code, err := w.SetupCode(t.Context())
		ok(t, err)
		w.user(t, "alice")
		_, _, err = w.CreateFirst(t.Context(), code, first)
		kind(t, err, errs.NotFound)
		_, _, err = w.Bootstrap(t.Context(), first)
		kind(t, err, errs.Conflict)
		if code, err := w.SetupCode(t.Context()); err != nil || code != "" {
			t.Errorf("a code although there is a user: %q, %v", code, err)
		}
	})
}

func TestConcurrentSetupsHaveOneWinner(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		code, err := w.SetupCode(t.Context())
		ok(t, err)
		names := []string{"ada", "bea", "cyd", "dot", "eve", "fay"}
		var group sync.WaitGroup
		failed := make([]error, len(names))
		start := make(chan bool)
		for i, name := range names {
			group.Go(func() {
				<-start
				n := identity.First{Login: name, Email: name + "@example.com", Organization: name + "-org"}
				if i%3 == 2 {
					_, _, failed[i] = w.Bootstrap(context.WithoutCancel(t.Context()), n)
				} else {
					_, _, failed[i] = w.CreateFirst(context.WithoutCancel(t.Context()), code, n)
				}
			})
		}
		close(start)
		group.Wait()
		winners := 0
		for i, err := range failed {
			switch {
			case err == nil:
				winners++
			case i%3 == 2:
				kind(t, err, errs.Conflict)
			default:
				kind(t, err, errs.NotFound)
			}
		}
		var users, organizations int64
		ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM users").Scan(&users).Error)
		ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM organizations").Scan(&organizations).Error)
		if winners != 1 || users != 1 || organizations != 1 {
			t.Errorf("%d winners, %d users, %d organizations: %v", winners, users, organizations, failed)
		}
	})
}
