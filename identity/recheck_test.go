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

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// provider is a connector whose answers to Recheck a test decides.
type provider struct {
	identity.Connector
	info   identity.ConnectorInfo
	answer func(subject string, credential []byte) (identity.External, error)

	mu    sync.Mutex
	asked []string
	most  int // questions at the same time
	now   int
}

func (p *provider) Info() identity.ConnectorInfo { return p.info }

func (p *provider) Recheck(_ context.Context, subject string, credential []byte) (identity.External, error) {
	p.mu.Lock()
	p.asked = append(p.asked, subject+" "+string(credential))
	p.now++
	p.most = max(p.most, p.now)
	p.mu.Unlock()
	defer func() { p.mu.Lock(); p.now--; p.mu.Unlock() }()
	return p.answer(subject, credential)
}

func (p *provider) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.Sort(p.asked)
	asked := strings.Join(p.asked, ", ")
	p.asked = nil
	return asked
}

type providers []*provider

func (ps providers) Site() []identity.Connector { return nil }

func (ps providers) Find(_ context.Context, name string) (identity.Connector, error) {
	for _, p := range ps {
		if p.info.Name == name {
			return p, nil
		}
	}
	return nil, errs.Errorf(errs.NotFound, "there is no such connector")
}

// OAU-40: who has left a group at the provider has left it here after RecheckEvery.
func TestRecheck(t *testing.T) {
	eachSealed(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "github", "github", "id-acme")
		hub := &provider{info: github}
		all := providers{hub}
		in := w.arrive(t, github, identity.External{Subject: "1", Login: "alice", Groups: groups("acme", "acme/ops"), Credential: []byte("first")})
		w.arrive(t, github, identity.External{Subject: "2", Login: "bob", Groups: groups("acme")}) // without a credential
		p, err := w.AuthenticateSession(t.Context(), in.Secret)
		ok(t, err)
		_, token, err := w.CreateToken(t.Context(), p, identity.TokenRequest{Expires: w.clock.now().Add(20 * time.Hour)})
		ok(t, err)
		var heard []string
		w.OnChange(func(id string) { heard = append(heard, id) })
		round := func(want string) {
			t.Helper()
			heard = nil
			w.audit.take()
			ok(t, w.RecheckAll(t.Context(), all))
			if got := hub.take(); got != want {
				t.Errorf("asked %q, want %q", got, want)
			}
		}
		round("") // it has just been answered for

		// The same answer, and a new credential.
		hub.answer = func(subject string, _ []byte) (identity.External, error) {
			return identity.External{Subject: subject, Login: "alice", Groups: groups("acme", "acme/ops"), Credential: []byte("second")}, nil
		}
		w.clock.advance(identity.RecheckEvery)
		round("1 first")
		round("")
		if len(w.audit.take()) != 0 || len(heard) != 0 {
			t.Error("nothing has changed, and somebody was told")
		}
		w.clock.advance(identity.RecheckEvery)
		round("1 second")
		if strings.Contains(dump(t, w.db), "second") {
			t.Error("the credential is stored as it came")
		}

		// The provider is down: everything stays.
		hub.answer = func(string, []byte) (identity.External, error) {
			return identity.External{}, errs.Errorf(errs.Unavailable, "no answer")
		}
		w.clock.advance(identity.RecheckEvery)
		round("1 second")
		if got := w.roles(t, acme); !strings.Contains(got, "alice") || w.Health("github").Failure != "no answer" {
			t.Errorf("members are %s", got)
		}
		// So it does when the answer is about somebody else.
		hub.answer = func(string, []byte) (identity.External, error) {
			return identity.External{Subject: "2", Groups: groups()}, nil
		}
		w.clock.advance(identity.RecheckEvery)
		round("1 second")
		if got := w.roles(t, acme); !strings.Contains(got, "alice") {
			t.Errorf("members are %s", got)
		}

		// Out of the group: the role goes, for session and token, and the sign-in stays.
		hub.answer = func(subject string, _ []byte) (identity.External, error) {
			return identity.External{Subject: subject, Login: "alice", Groups: groups()}, nil
		}
		w.clock.advance(identity.RecheckEvery)
		round("1 second")
		roster, err := w.MembersOf(t.Context(), acme.ID)
		ok(t, err)
		if _, in := roster.Roles[p.UserID]; in || !slices.Contains(heard, acme.ID) || w.teams(t, acme) != "ops:" {
			t.Errorf("%v, heard %v, teams %s", roster.Roles, heard, w.teams(t, acme))
		}
		if got := w.logged(map[string]string{acme.ID: "acme"}); got != "acme member-removed user:alice" {
			t.Errorf("recorded %s", got)
		}
		_, err = w.AuthenticateSession(t.Context(), in.Secret)
		ok(t, err)

		// Nothing that could be taken away is nothing to ask about.
		ok(t, w.EndSessions(t.Context(), identity.Principal{}, p.UserID))
		w.clock.advance(identity.RecheckEvery)
		round("1 second") // the token
		_, err = w.AuthenticateToken(t.Context(), token)
		ok(t, err)
		w.clock.advance(20 * time.Hour)
		round("")
		again := w.arrive(t, github, identity.External{Subject: "1"})
		w.clock.advance(identity.RecheckEvery)
		round("1 second")
		p, err = w.AuthenticateSession(t.Context(), again.Secret)
		ok(t, err)
		ok(t, w.EndSession(t.Context(), p))
		w.clock.advance(identity.RecheckEvery)
		round("")
	})
}

func TestWithdrawn(t *testing.T) {
	eachSealed(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "github", "github", "id-acme")
		gone := func(string, []byte) (identity.External, error) {
			return identity.External{}, fmt.Errorf("asking: %w", identity.ErrWithdrawn)
		}
		hub := &provider{info: github, answer: gone}
		x := identity.External{Subject: "1", Login: "alice", Groups: groups("acme", "acme/ops"), Credential: []byte("c")}
		alice := w.arrive(t, github, x)
		p, err := w.AuthenticateSession(t.Context(), alice.Secret)
		ok(t, err)
		_, token, err := w.CreateToken(t.Context(), p, identity.TokenRequest{})
		ok(t, err)
		// Bob has another way in.
		bob := w.newUser(t, "bob")
		q := w.fresh(t, bob)
		ok(t, w.Link(t.Context(), q, github, w.flow(), identity.External{Subject: "2", Groups: groups("acme"), Credential: []byte("c")}))
		byEmail, _, err := w.CreateSession(t.Context(), bob.ID, "email")
		ok(t, err)
		byGitHub := w.arrive(t, github, identity.External{Subject: "2", Credential: []byte("c")})

		w.clock.advance(identity.RecheckEvery)
		w.audit.take()
		ok(t, w.RecheckAll(t.Context(), providers{hub}))
		_, err = w.AuthenticateSession(t.Context(), alice.Secret)
		reason(t, err, identity.UserDisabled)
		_, err = w.AuthenticateToken(t.Context(), token)
		reason(t, err, identity.UserDisabled)
		if u, err := w.User(t.Context(), alice.User.ID); err != nil || u.DisabledBy != "connector:github" || u.Disabled.IsZero() {
			t.Errorf("%+v, %v", u, err)
		}
		if got := w.roles(t, acme) + w.teams(t, acme); got != "ops:" {
			t.Errorf("in acme are %s", got)
		}
		_, err = w.AuthenticateSession(t.Context(), byGitHub.Secret)
		reason(t, err, identity.SessionEnded)
		_, err = w.AuthenticateSession(t.Context(), byEmail)
		ok(t, err)
		if u, err := w.User(t.Context(), bob.ID); err != nil || !u.Disabled.IsZero() {
			t.Errorf("%+v, %v", u, err)
		}
		got := strings.Split(w.logged(map[string]string{acme.ID: "acme", audit.Site: "site"}), ", ")
		slices.Sort(got)
		if want := []string{
			"acme member-removed user:alice", "acme member-removed user:bob",
			"site user-disabled user:alice", "site user-identity-withdrawn user:alice", "site user-identity-withdrawn user:bob",
		}; !slices.Equal(got, want) {
			t.Errorf("recorded %q", got)
		}
		linked, err := w.LinkedIdentities(t.Context(), alice.User.ID)
		if err != nil || !linked[0].Withdrawn.Equal(w.clock.now()) {
			t.Errorf("%+v, %v", linked, err)
		}
		// Nobody asks again, until they arrive; then they are in again.
		w.clock.advance(identity.RecheckEvery)
		hub.take()
		ok(t, w.RecheckAll(t.Context(), providers{hub}))
		if got := hub.take(); got != "" {
			t.Errorf("asked %s", got)
		}
		again := w.arrive(t, github, x)
		if !again.User.Disabled.IsZero() || again.User.DisabledBy != "" || again.User.ID != alice.User.ID {
			t.Errorf("arrived as %+v", again.User)
		}
		_, err = w.AuthenticateToken(t.Context(), token)
		ok(t, err)
		if got := w.roles(t, acme); got != "{alice member github}" {
			t.Errorf("members are %s", got)
		}
		_, err = w.AuthenticateSession(t.Context(), alice.Secret)
		reason(t, err, identity.SessionEnded)

		// An administrator's word is stronger than the provider's.
		w.clock.advance(identity.RecheckEvery)
		ok(t, w.RecheckAll(t.Context(), providers{hub}))
		ok(t, w.Disable(t.Context(), identity.Principal{}, alice.User.ID))
		_, err = w.Arrive(t.Context(), github, w.flow(), x)
		reason(t, err, identity.UserDisabled)
		// And one provider does not enable whom another has disabled.
		w.exec(t, "UPDATE users SET disabled_by = 'connector:gitlab' WHERE id = ?", alice.User.ID)
		_, err = w.Arrive(t.Context(), github, w.flow(), x)
		reason(t, err, identity.UserDisabled)
	})
}

func TestProviderThatDoesNotAnswer(t *testing.T) {
	eachSealed(t, func(t *testing.T, w *world) {
		down := func(string, []byte) (identity.External, error) { return identity.External{}, errors.New("down") }
		for name, c := range map[string]struct {
			all providers
		}{"down": {providers{{info: github, answer: down}}}, "not configured any more": {nil}} {
			in := w.arrive(t, github, identity.External{Subject: name, Login: "alice", Credential: []byte("c")})
			byEmail, _, err := w.CreateSession(t.Context(), in.User.ID, "email")
			ok(t, err)
			end := w.clock.now().Add(identity.RecheckGrace)
			for w.clock.now().Before(end) {
				for _, secret := range []string{in.Secret, byEmail} {
					if _, err := w.AuthenticateSession(t.Context(), secret); err != nil {
						t.Fatalf("%s: out %v before the end of the grace: %v", name, end.Sub(w.clock.now()), err)
					}
				}
				ok(t, w.RecheckAll(t.Context(), c.all))
				w.clock.advance(2 * time.Hour)
			}
			w.audit.take()
			ok(t, w.RecheckAll(t.Context(), c.all))
			_, err = w.AuthenticateSession(t.Context(), in.Secret)
			reason(t, err, identity.SessionEnded)
			_, err = w.AuthenticateSession(t.Context(), byEmail)
			ok(t, err)
			if got := w.audit.take(); len(got) != 1 || !strings.HasPrefix(got[0], "session-ended ") {
				t.Errorf("%s: recorded %v", name, got)
			}
			ok(t, w.EndSessions(t.Context(), identity.Principal{}, in.User.ID))
		}
	})
}

// Replicas share the work, a few at a time, and one that is down is left alone.
func TestRechecksAtOnce(t *testing.T) {
	eachSealed(t, func(t *testing.T, w *world) {
		const many = 230 // more than a batch
		for i := range many {
			w.arrive(t, github, identity.External{Subject: fmt.Sprint("hub-", i), Login: "u", Credential: []byte("c")})
		}
		const down = 40
		for i := range down {
			w.arrive(t, gitlab, identity.External{Subject: fmt.Sprint("lab-", i), Login: "u", Credential: []byte("c")})
		}
		hub := &provider{info: github, answer: func(subject string, _ []byte) (identity.External, error) {
			return identity.External{Subject: subject}, nil
		}}
		lab := &provider{info: gitlab, answer: func(string, []byte) (identity.External, error) {
			return identity.External{}, errors.New("down")
		}}
		w.clock.advance(identity.RecheckEvery)
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				if err := w.RecheckAll(context.Background(), providers{hub, lab}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		asked := strings.Split(hub.take(), ", ")
		if len(asked) != many || len(slices.Compact(asked)) != many {
			t.Errorf("asked %d times about %d", len(asked), len(slices.Compact(asked)))
		}
		if n := len(strings.Split(lab.take(), ", ")); n < 3 || n > 2*(3+3) { // by two replicas: three failures, and three more under way
			t.Errorf("asked %d times a provider that is down", n)
		}
		if hub.most > 8 {
			t.Errorf("%d questions at once by two replicas", hub.most)
		}
	})
}

// What a provider has said is old when the person arrives meanwhile.
func TestAnswersThatAreTooLate(t *testing.T) {
	eachSealed(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "github", "github", "id-acme")
		x := identity.External{Subject: "1", Login: "alice", Groups: groups("acme"), Credential: []byte("old")}
		w.arrive(t, github, x)
		var in identity.SignedIn
		for name, answer := range map[string]func() (identity.External, error){
			"withdrawn": func() (identity.External, error) { return identity.External{}, identity.ErrWithdrawn },
			"groups": func() (identity.External, error) {
				return identity.External{Subject: "1", Groups: groups(), Credential: []byte("late")}, nil
			},
		} {
			hub := &provider{info: github, answer: func(string, []byte) (identity.External, error) {
				w.clock.advance(time.Second)
				x.Credential = []byte("new")
				in = w.arrive(t, github, x)
				return answer()
			}}
			w.clock.advance(identity.RecheckEvery)
			ok(t, w.RecheckAll(t.Context(), providers{hub}))
			if _, err := w.AuthenticateSession(t.Context(), in.Secret); err != nil || w.roles(t, acme) != "{alice member github}" {
				t.Errorf("%s: %v, members are %s", name, err, w.roles(t, acme))
			}
			hub.take()
			hub.answer = func(string, []byte) (identity.External, error) { return identity.External{}, errors.New("x") }
			w.clock.advance(identity.RecheckEvery)
			ok(t, w.RecheckAll(t.Context(), providers{hub}))
			if got := hub.take(); got != "1 new" {
				t.Errorf("%s: asked %q", name, got)
			}
		}
	})
}

func TestRunRechecksEnds(t *testing.T) {
	eachSealed(t, func(t *testing.T, w *world) {
		hub := &provider{info: github, answer: func(subject string, _ []byte) (identity.External, error) {
			return identity.External{Subject: subject}, nil
		}}
		w.arrive(t, github, identity.External{Subject: "1", Login: "alice", Credential: []byte("c")})
		w.clock.advance(identity.RecheckEvery)
		ctx, cancel := context.WithCancel(t.Context())
		answer := hub.answer
		hub.answer = func(subject string, credential []byte) (identity.External, error) {
			cancel()
			return answer(subject, credential)
		}
		ok(t, w.RunRechecks(ctx, providers{hub}))
		if got := hub.take(); got != "1 c" {
			t.Errorf("asked %q", got)
		}
	})
}
