package email_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestBruteForceIsSlowedDown(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.bootstrap(t)
		w.audit.take()
		names := []string{"admin", "ADMIN", "Admin ", "ada@example.com", "ADA@EXAMPLE.COM", " Ada@example.com"}
		var evaluated, refused atomic.Int64
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				for j := range 5 {
					_, err := w.SignIn(from(t.Context(), fmt.Sprintf("203.0.113.%d", (i*5+j)%50)), names[(i+j)%len(names)], "wrong password")
					switch errs.KindOf(err) {
					case errs.Unauthenticated:
						evaluated.Add(1)
					case errs.Exhausted:
						refused.Add(1)
					default:
						t.Errorf("%v", err)
					}
				}
			})
		}
		group.Wait()
		if evaluated.Load() > 10 || evaluated.Load()+refused.Load() != 100 {
			t.Errorf("%d of 100 attempts were evaluated", evaluated.Load())
		}
		events := w.audit.take()
		if int64(len(events)) != evaluated.Load()+1 {
			t.Errorf("%d events for %d evaluated attempts", len(events), evaluated.Load())
		}
		if _, err := w.SignIn(t.Context(), "admin", good); errs.KindOf(err) != errs.Exhausted {
			t.Errorf("the right password is a way to go on: %v", err)
		}
		// It is no lock-out.
		w.advance(email.Window)
		_, err := w.SignIn(t.Context(), "admin", good)
		ok(t, err)
	})
}

// Whoever has signed in from a network before gets in from there, whatever strangers do.
func TestStrangersDoNotLockTheOwnerOut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.bootstrap(t)
		home := from(t.Context(), "2001:db8:1:2::5")
		_, err := w.SignIn(home, "admin", good)
		ok(t, err)
		for i := range 100 {
			_, err := w.SignIn(from(t.Context(), fmt.Sprintf("203.0.113.%d", i)), "admin", "wrong password")
			if i >= email.PerAccount-email.Reserved {
				kind(t, err, errs.Exhausted)
			}
		}
		_, err = w.SignIn(from(t.Context(), "198.51.100.1"), "admin", good)
		kind(t, err, errs.Exhausted)
		w.open(t, cheap) // what is known of home outlives a restart; the counters do not
		for i := range 100 {
			_, _ = w.SignIn(from(t.Context(), fmt.Sprintf("203.0.113.%d", i)), "admin", "wrong password")
		}
		_, err = w.SignIn(from(t.Context(), "2001:db8:1:2:ffff::9"), "admin", good)
		ok(t, err)
		// The total stays what it is: home may fail as often as is reserved.
		for i := range 4 {
			_, err = w.SignIn(home, "admin", "wrong password")
			if (errs.KindOf(err) == errs.Exhausted) != (i >= email.Reserved) {
				t.Errorf("attempt %d from home: %v", i, err)
			}
		}
	})
}

func TestUnknownAccountsAreThrottledToo(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	w.bootstrap(t)
	count := func(name string) (n int) {
		for {
			if _, err := w.SignIn(t.Context(), name, "wrong password"); errs.KindOf(err) != errs.Unauthenticated || n > 50 {
				return n
			}
			n++
		}
	}
	if known, unknown := count("admin"), count("nobody"); known != unknown {
		t.Errorf("a known account has %d attempts, an unknown one %d", known, unknown)
	}
}

func TestPoolIsBounded(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	w.bootstrap(t)
	w.audit.take()
	release := w.Occupy()
	var group sync.WaitGroup
	var exhausted, evaluated atomic.Int64
	for i := range 100 {
		group.Go(func() {
			_, err := w.SignIn(from(t.Context(), fmt.Sprintf("10.0.0.%d", i)), fmt.Sprint("nobody", i), "wrong password")
			switch errs.KindOf(err) {
			case errs.Exhausted:
				exhausted.Add(1)
			case errs.Unauthenticated:
				evaluated.Add(1)
			}
		})
	}
	for exhausted.Load() < 100-email.MaxWaiting {
		runtime.Gosched()
	}
	if running, waiting := w.Work(); running != w.Slots() || waiting != email.MaxWaiting {
		t.Errorf("%d run and %d wait", running, waiting)
	}
	release()
	group.Wait()
	if exhausted.Load() != 100-email.MaxWaiting || evaluated.Load() != email.MaxWaiting {
		t.Errorf("%d exhausted, %d evaluated", exhausted.Load(), evaluated.Load())
	}
	overloads := 0
	for _, e := range w.audit.take() {
		if e.Rule == email.Overloaded {
			overloads++
		}
	}
	if overloads != 1 {
		t.Errorf("%d events say that it was overloaded", overloads)
	}
	// Whoever goes away while waiting frees the place, and has not used an attempt up.
	release = w.Occupy()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := w.SignIn(ctx, "admin", good); done <- err }()
		w.waits()
		cancel()
		kind(t, <-done, errs.Unavailable)
	}
	release()
	_, err := w.SignIn(t.Context(), "admin", good)
	ok(t, err)
}

// A password opens nothing once its identity has been unlinked.
func TestUnlinkedPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.user(t, "bob")
		_, err := w.SignIn(t.Context(), "bob", good)
		ok(t, err)
		ok(t, w.db.Conn(t.Context()).Exec("DELETE FROM identities WHERE user_id = ? AND connector = 'email'", user.ID).Error)
		_, err = w.SignIn(t.Context(), "bob", good)
		reason(t, err, email.NoPassword)
	})
}

// Of a deleted account nothing is left.
func TestDeletedAccountIsForgotten(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.user(t, "first")
		user := w.user(t, "bob")
		_, err := w.SignIn(t.Context(), "bob", good)
		ok(t, err)
		left := func() (n int64) {
			ok(t, w.db.Reader(t.Context()).Raw("SELECT (SELECT count(*) FROM passwords WHERE user_id = ?) + (SELECT count(*) FROM email_codes WHERE user_id = ?)", user.ID, user.ID).Scan(&n).Error)
			return n
		}
		ok(t, w.ForgotPassword(t.Context(), user.Email))
		if n := left(); n != 2 {
			t.Fatalf("there are %d rows", n)
		}
		ok(t, w.directory.DeleteUser(t.Context(), identity.Principal{}, user.ID))
		if n := left(); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}
