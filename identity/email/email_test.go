package email_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/internal/sealed"
)

// cheap is a cost at which tests are quick.
var cheap = email.Cost{Memory: 64, Passes: 1, Threads: 1}

const good = "correct horse battery staple"

// long is as long as a password with one character more may be.
var long = good + strings.Repeat("a", 255-len(good))

var first = identity.First{Login: "admin", Name: "Ada", Email: "Ada@Example.com", Organization: "acme"}

var migrations = []database.Migrations{identity.Migrations, email.Migrations, audit.Migrations}

// recorder is the real log, with an error to inject and a look at what is recorded.
type recorder struct {
	log  *audit.Log
	fail error

	mu     sync.Mutex
	events []audit.Event
}

func (r *recorder) AppendDone(ctx context.Context, log string, e audit.Event, o audit.Outcome) (audit.Ref, error) {
	if r.fail != nil {
		return audit.Ref{}, r.fail
	}
	ref, err := r.log.AppendDone(ctx, log, e, o)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	}
	return ref, err
}

// take returns the events since the last call.
func (r *recorder) take() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

type world struct {
	*email.Connector
	directory *identity.Directory
	db        *database.DB
	audit     *recorder
	mail      *post
	config    email.Config
	elapsed   atomic.Int64
}

func (w *world) now() time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(w.elapsed.Load()))
}

func (w *world) advance(d time.Duration) { w.elapsed.Add(int64(d)) }

func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, newWorld(t, db, cheap)) }, migrations...)
}

func newWorld(t testing.TB, db *database.DB, cost email.Cost) *world {
	t.Helper()
	if db.Dialect() == database.SQLite { // no test here cuts the power
		ok(t, db.Conn(t.Context()).Exec("PRAGMA synchronous = OFF").Error)
	}
	log, err := audit.Open(audit.Config{DB: db})
	ok(t, err)
	t.Cleanup(log.Close)
	w := &world{db: db, audit: &recorder{log: log}, mail: &post{}}
	w.mail.now = w.now
	w.directory, err = identity.Open(identity.Config{DB: db, Audit: w.audit, Now: w.now})
	ok(t, err)
	box, err := sealed.New(make([]byte, sealed.KeySize), "email")
	ok(t, err)
	w.config = email.Config{
		Directory: w.directory, DB: w.db, Audit: w.audit, Now: w.now, Mail: w.mail, Box: box,
		ConsoleURL: "https://ipuka.example.com/", SignUp: true, PasswordLogin: true,
	}
	w.open(t, cost)
	return w
}

// open makes the connector anew, as a restart would.
func (w *world) open(t testing.TB, cost email.Cost) {
	t.Helper()
	var err error
	w.config.Cost = cost
	w.Connector, err = email.New(w.config)
	ok(t, err)
}

func (w *world) bootstrap(t *testing.T) identity.User {
	t.Helper()
	user, _, err := w.Bootstrap(t.Context(), first, good)
	ok(t, err)
	return user
}

// waits returns once somebody waits to hash.
func (w *world) waits() {
	for {
		if _, waiting := w.Work(); waiting == 1 {
			return
		}
		runtime.Gosched()
	}
}

// from returns a context of a request from an address.
func from(ctx context.Context, address string) context.Context {
	return httpapi.WithRequest(ctx, httpapi.Request{ID: "r", Address: address})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func kind(t testing.TB, err error, want errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != want {
		t.Fatalf("error is %v, want one of kind %q", err, want)
	}
}

func reason(t testing.TB, err error, want string) {
	t.Helper()
	kind(t, err, errs.Unauthenticated)
	var refusal *identity.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != want {
		t.Fatalf("error is %v, want a refusal for %s", err, want)
	}
}

func TestSetup(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		code, err := w.directory.SetupCode(t.Context())
		ok(t, err)
		_, _, err = w.Setup(t.Context(), code+"x", first, good)
		kind(t, err, errs.Forbidden)
		if events := w.audit.take(); len(events) != 1 || events[0].Name != "site-setup-failed" || events[0].Decision != audit.Deny || events[0].Rule != "setup_code_wrong" {
			t.Errorf("recorded %+v", events)
		}
		for range 50 { // nobody fills the disk with wrong codes
			_, _, err = w.Setup(t.Context(), "x", first, good)
			kind(t, err, errs.Forbidden)
		}
		if events := w.audit.take(); len(events) != 0 {
			t.Errorf("%d more events within a minute", len(events))
		}
		release := w.Occupy() // whoever has not the code makes nobody hash
		over, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, _, err = w.Setup(over, code+"x", first, good)
		kind(t, err, errs.Forbidden)
		cancel()
		release()
		_, _, err = w.Setup(t.Context(), code, first, "short")
		kind(t, err, errs.Invalid)
		_, _, err = w.Setup(t.Context(), code, identity.First{Login: "admin", Email: "a@x@corp.com", Organization: "acme"}, good)
		kind(t, err, errs.Invalid)
		user, o, err := w.Setup(t.Context(), code, first, good)
		ok(t, err)
		if user.Login != "admin" || !user.SiteAdmin || o.Login != "acme" {
			t.Errorf("%+v, %+v", user, o)
		}
		w.advance(time.Minute)
		_, _, err = w.Setup(t.Context(), code, identity.First{Login: "eve", Email: "eve@example.com", Organization: "evil"}, good)
		kind(t, err, errs.NotFound)
		_, _, err = w.Bootstrap(t.Context(), identity.First{Login: "eve", Email: "eve@example.com", Organization: "evil"}, good)
		kind(t, err, errs.Conflict)
		for _, name := range []string{"admin", "ADMIN", " admin ", "ada@example.com", "ADA@example.COM"} {
			got, err := w.SignIn(t.Context(), name, good)
			if err != nil || got != user {
				t.Errorf("as %q: %+v, %v", name, got, err)
			}
		}
	})
}

// Whatever fails within the set-up, nothing of it remains and the code stays good.
func TestSetupIsOneTransaction(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		code, err := w.directory.SetupCode(t.Context())
		ok(t, err)
		ok(t, w.db.Conn(t.Context()).Exec("ALTER TABLE passwords RENAME TO hidden").Error)
		if _, _, err := w.Setup(t.Context(), code, first, good); err == nil {
			t.Fatal("set up without a password")
		}
		_, err = w.directory.UserByLogin(t.Context(), "admin")
		kind(t, err, errs.NotFound)
		ok(t, w.db.Conn(t.Context()).Exec("ALTER TABLE hidden RENAME TO passwords").Error)
		w.audit.fail = errs.Errorf(errs.Unavailable, "the disk is full")
		_, _, err = w.Setup(t.Context(), code, first, good)
		kind(t, err, errs.Unavailable)
		w.audit.fail = nil
		_, _, err = w.Setup(t.Context(), code, first, good)
		ok(t, err)
	})
}

func TestConcurrentSetups(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		code, err := w.directory.SetupCode(t.Context())
		ok(t, err)
		var group sync.WaitGroup
		failed := make([]error, 5)
		for i := range failed {
			group.Go(func() {
				_, _, failed[i] = w.Setup(t.Context(), code, identity.First{Login: fmt.Sprint("u", i), Email: "u@example.com", Organization: fmt.Sprint("o", i)}, good)
			})
		}
		group.Wait()
		winners := 0
		for _, err := range failed {
			if err == nil {
				winners++
			} else {
				kind(t, err, errs.NotFound)
			}
		}
		var passwords int64
		ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM passwords").Scan(&passwords).Error)
		if winners != 1 || passwords != 1 {
			t.Errorf("%d winners, %d passwords", winners, passwords)
		}
	})
}

func TestValidPassword(t *testing.T) {
	for password, want := range map[string]bool{
		good: true, strings.Repeat("é", 7) + "wonbt": true, long + "x": true, "pass word\u3000 12": true,
		"": false, "elevenchars": false, strings.Repeat("a", 257): false, strings.Repeat("a", 1<<20): false,
		strings.Repeat(" ", 20): false, strings.Repeat("\u3000", 20): false, "twelve chars\x00": false, "line\nbreak123": false, "\xff\xfe invalid utf8": false,
		"e\u0301o\u0301a\u0301u\u0301i\u0301" + "wonbtxf": true, "e\u0301o\u0301a\u0301u\u0301i\u0301" + "wonbtx": false,
		"administrator": false, "ADMINISTRATOR": false, " administrator ": false, "Admin@Example.com": false,
	} {
		err := email.ValidPassword(password, "Administrator", "admin@example.com")
		if (err == nil) != want || err != nil && errs.KindOf(err) != errs.Invalid {
			t.Errorf("ValidPassword(%.40q) = %v", password, err)
		}
		if err != nil && len(password) > 5 && strings.Contains(err.Error(), password) {
			t.Errorf("the error has the password in it: %v", err)
		}
	}
}

func TestPasswordsCompareAfterNormalisation(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	composed, decomposed := "caf\u00e9 caf\u00e9 caf\u00e9", "cafe\u0301 cafe\u0301 cafe\u0301"
	user, _, err := w.Bootstrap(t.Context(), first, composed)
	ok(t, err)
	_, err = w.SignIn(t.Context(), "admin", decomposed)
	ok(t, err)
	// Nothing is cut: not after 72 bytes, not at all.
	ok(t, w.SetPassword(t.Context(), identity.Principal{}, user.ID, long+"b"))
	_, err = w.SignIn(t.Context(), "admin", long+"b")
	ok(t, err)
	for _, wrong := range []string{long, long + "c", long + "b ", long[:72], ""} {
		_, err = w.SignIn(t.Context(), "admin", wrong)
		reason(t, err, email.WrongPassword)
	}
	_, err = w.SignIn(t.Context(), "admin", strings.Repeat("a", 1<<20))
	kind(t, err, errs.Invalid)
}

func TestFailuresAreTheSame(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		admin := w.bootstrap(t)
		_, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "ext", Email: "ext@example.com", Identity: identity.Identity{Connector: "github", Subject: "1"}})
		ok(t, err)
		off, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "off", Email: "off@example.com"})
		ok(t, err)
		ok(t, w.SetPassword(t.Context(), identity.Principal{}, off.ID, good))
		ok(t, w.directory.Disable(t.Context(), admin.Principal(""), off.ID))
		w.audit.take()
		texts := map[string]bool{}
		for _, c := range []struct{ name, password, reason, object string }{
			{"admin", "wrong password", email.WrongPassword, "user:admin"},
			{"ada@example.com", "wrong password", email.WrongPassword, "user:admin"},
			{"nobody", good, email.UnknownAccount, "user"},
			{"nobody@example.com", good, email.UnknownAccount, "user"},
			{"hunter2 is my password", good, email.UnknownAccount, "user"},
			{"", good, email.UnknownAccount, "user"},
			{"1=1", good, email.UnknownAccount, "user"},
			{"a@x@corp.com", good, email.UnknownAccount, "user"},
			{"ext", good, email.NoPassword, "user:ext"},
			{"ext@example.com", good, email.UnknownAccount, "user"},
			{"off", good, email.AccountDisabled, "user:off"},
			{"OFF@example.com", "wrong password", email.AccountDisabled, "user:off"},
		} {
			_, err := w.SignIn(t.Context(), c.name, c.password)
			reason(t, err, c.reason)
			texts[errs.Public(err)] = true
			events := w.audit.take()
			if len(events) != 1 || events[0].Name != "user-login-failed" || events[0].Rule != c.reason || events[0].Object != c.object || events[0].Actor.Kind != audit.Anonymous || events[0].Decision != audit.Deny {
				t.Errorf("%q is recorded as %+v", c.name, events)
			}
		}
		if len(texts) != 1 {
			t.Errorf("failures can be told apart: %v", texts)
		}
		// Without a record there is no answer about the password.
		w.audit.fail = errs.Errorf(errs.Unavailable, "the disk is full")
		_, err = w.SignIn(t.Context(), "admin", "wrong password")
		kind(t, err, errs.Unavailable)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = w.SignIn(over, "admin", good)
		kind(t, err, errs.Unavailable)
	})
}

// Whoever cannot get in costs what a wrong password costs: one hash of the same cost.
// With all slots taken, every one of them is seen to wait for one.
func TestFailuresTakeTheSameWork(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	w.bootstrap(t)
	off, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "off"})
	ok(t, err)
	ok(t, w.SetPassword(t.Context(), identity.Principal{}, off.ID, good))
	ok(t, w.directory.Disable(t.Context(), identity.Principal{}, off.ID))
	_, err = w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "ext"})
	ok(t, err)
	if w.DummyCost() != cheap {
		t.Errorf("comparing with nothing costs %+v", w.DummyCost())
	}
	for _, name := range []string{"admin", "off", "ext", "nobody", "nobody@example.com", "not a name", ""} {
		release := w.Occupy()
		done := make(chan error, 1)
		go func() { _, err := w.SignIn(t.Context(), name, "wrong password"); done <- err }()
		w.waits()
		release()
		kind(t, <-done, errs.Unauthenticated)
	}
}

func TestHashIsMadeAnewWhenItsCostChanges(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.bootstrap(t)
		stored := func() (encoded string) {
			ok(t, w.db.Reader(t.Context()).Raw("SELECT hash FROM passwords WHERE user_id = ?", user.ID).Scan(&encoded).Error)
			return encoded
		}
		before := stored()
		_, err := w.SignIn(t.Context(), "admin", good)
		ok(t, err)
		if stored() != before {
			t.Error("hashed anew without a reason")
		}
		dearer := email.Cost{Memory: 128, Passes: 2, Threads: 1}
		w.open(t, dearer)
		_, err = w.SignIn(t.Context(), "admin", "wrong password")
		reason(t, err, email.WrongPassword)
		if stored() != before {
			t.Error("a wrong password has changed the hash")
		}
		_, err = w.SignIn(t.Context(), "admin", good)
		ok(t, err)
		if _, cost, err := email.Reparse(stored()); err != nil || cost != dearer {
			t.Errorf("the cost is %+v, %v", cost, err)
		}
		_, err = w.SignIn(t.Context(), "admin", good)
		ok(t, err)
	})
}

func TestSetPassword(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		user := w.bootstrap(t)
		secret, _, err := w.directory.CreateSession(t.Context(), user.ID, identity.EmailConnector)
		ok(t, err)
		w.audit.take()
		kind(t, w.SetPassword(t.Context(), user.Principal(""), user.ID, "short"), errs.Invalid)
		kind(t, w.SetPassword(t.Context(), user.Principal(""), user.ID, "ADA@example.com"), errs.Invalid)
		kind(t, w.SetPassword(t.Context(), user.Principal(""), "", good), errs.NotFound)
		ok(t, w.SetPassword(t.Context(), user.Principal(""), user.ID, "another good password"))
		_, err = w.directory.AuthenticateSession(t.Context(), secret)
		kind(t, err, errs.Unauthenticated)
		_, err = w.SignIn(t.Context(), "admin", good)
		reason(t, err, email.WrongPassword)
		_, err = w.SignIn(t.Context(), "admin", "another good password")
		ok(t, err)
		var names []string
		for _, e := range w.audit.take() {
			names = append(names, e.Name+" "+e.Actor.Login)
		}
		if want := []string{"user-password-changed admin", "session-ended admin", "user-login-failed "}; !slices.Equal(names, want) {
			t.Errorf("recorded %v", names)
		}
		// Whose address somebody else signs in with gets no password by it.
		twin, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "twin", Email: "ada@example.com"})
		ok(t, err)
		kind(t, w.SetPassword(t.Context(), identity.Principal{}, twin.ID, good), errs.Conflict)
		_, err = w.SignIn(t.Context(), "twin", good)
		reason(t, err, email.NoPassword)
	})
}

// A password that is changed while an old one is being checked must not let the old
// one in.
func TestPasswordChangesWhileItIsChecked(t *testing.T) {
	w := newWorld(t, databasetest.SQLite(t, migrations...), cheap)
	user := w.bootstrap(t)
	release := w.Occupy()
	done := make(chan error, 1)
	go func() { _, err := w.SignIn(t.Context(), "admin", good); done <- err }()
	w.waits()
	ok(t, w.db.Conn(t.Context()).Exec("UPDATE passwords SET hash = ? WHERE user_id = ?", email.Encode(cheap, "another good password"), user.ID).Error)
	release()
	reason(t, <-done, email.PasswordChanged)
}

func TestPasswordsAreNowhere(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		code, err := w.directory.SetupCode(t.Context())
		ok(t, err)
		var texts []string
		note := func(err error) { texts = append(texts, fmt.Sprintf("%v %+v", err, err)) }
		canary := "canary-4711 canary"
		_, _, err = w.Setup(t.Context(), "wrong", first, canary)
		note(err)
		user, _, err := w.Setup(t.Context(), code, first, canary)
		ok(t, err)
		for _, name := range []string{"admin", canary, "nobody"} {
			_, err := w.SignIn(t.Context(), name, canary+"!")
			note(err)
		}
		note(w.SetPassword(t.Context(), identity.Principal{}, user.ID, canary+"\n"))
		note(w.SetPassword(t.Context(), identity.Principal{}, user.ID, strings.Repeat(canary, 100)))
		ok(t, w.SetPassword(t.Context(), identity.Principal{}, user.ID, canary+"?"))
		_, err = w.SignIn(t.Context(), "admin", canary+"?")
		ok(t, err)
		var hash string
		ok(t, w.db.Reader(t.Context()).Raw("SELECT hash FROM passwords").Scan(&hash).Error)
		for _, e := range w.audit.take() {
			texts = append(texts, fmt.Sprintf("%+v", e))
		}
		all := strings.Join(texts, "\n")
		if !strings.Contains(all, "user-login-failed") || !strings.HasPrefix(hash, "$argon2id$v=19$m=64,t=1,p=1$") {
			t.Fatal("the search looks in the wrong place")
		}
		for _, secret := range []string{canary, code, hash, "$argon2id"} {
			if strings.Contains(all, secret) {
				t.Errorf("%q is in %s", secret, all)
			}
		}
		if strings.Contains(hash, "canary") {
			t.Errorf("stored is %q", hash)
		}
	})
}
