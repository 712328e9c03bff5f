package email_test

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/mail"
)

// post is a mail server that keeps everything.
type post struct {
	now  func() time.Time
	fail error

	mu       sync.Mutex
	messages []mail.Message
}

func (p *post) Send(_ context.Context, m mail.Message) error {
	if p.fail != nil {
		return p.fail
	}
	if !m.Expires.After(p.now()) || !strings.Contains(m.Text, m.Link) || m.Subject == "" || m.Kind == "" || strings.ContainsAny(m.Subject+m.To, "\r\n") {
		return errs.Errorf(errs.Internal, "no mailer sends %+v", m)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages = append(p.messages, m)
	return nil
}

// take returns the mails since the last call.
func (p *post) take() []mail.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	messages := p.messages
	p.messages = nil
	return messages
}

// letter returns the one mail since the last call.
func (p *post) letter(t testing.TB, kind, to string) mail.Message {
	t.Helper()
	messages := p.take()
	if len(messages) != 1 || messages[0].Kind != kind || messages[0].To != to {
		t.Fatalf("mails %+v, want one of kind %s to %s", messages, kind, to)
	}
	return messages[0]
}

// codeOf returns the code of a mail's link.
func codeOf(t testing.TB, m mail.Message) string {
	t.Helper()
	link, err := url.Parse(m.Link)
	ok(t, err)
	if !strings.HasPrefix(m.Link, "https://ipuka.example.com/") || link.Query().Get("code") == "" {
		t.Fatalf("the link is %q", m.Link)
	}
	return link.Query().Get("code")
}

// session is p's user with a session that began some time ago.
func (w *world) session(t testing.TB, user identity.User, ago time.Duration) identity.Principal {
	t.Helper()
	w.advance(-ago)
	secret, _, err := w.directory.CreateSession(t.Context(), user.ID, identity.EmailConnector)
	ok(t, err)
	w.advance(ago)
	p, err := w.directory.AuthenticateSession(t.Context(), secret)
	ok(t, err)
	return p
}

// user makes a user with a password and a verified address.
func (w *world) user(t testing.TB, login string) identity.User {
	t.Helper()
	user, err := w.directory.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: login, Email: login + "@example.com"})
	ok(t, err)
	ok(t, w.SetPassword(t.Context(), identity.Principal{}, user.ID, good))
	ok(t, w.directory.SetEmail(t.Context(), identity.Principal{}, user.ID, user.Email, true))
	user, err = w.directory.User(t.Context(), user.ID)
	ok(t, err)
	w.audit.take()
	w.mail.take()
	return user
}

// names returns the names and reasons of events.
func names(events []audit.Event) (out []string) {
	for _, e := range events {
		name := e.Name
		if e.Rule != "" {
			name += " " + e.Rule
		}
		out = append(out, name)
	}
	return out
}

// together calls f n times at once and returns how many calls had no error; all others
// must have an error of a kind.
func together(t testing.TB, n int, otherwise errs.Kind, f func() error) (passed int) {
	t.Helper()
	var group sync.WaitGroup
	results := make([]error, n)
	for i := range n {
		group.Go(func() { results[i] = f() })
	}
	group.Wait()
	for _, err := range results {
		switch {
		case err == nil:
			passed++
		case errs.KindOf(err) != otherwise:
			t.Errorf("error is %v, want kind %q", err, otherwise)
		}
	}
	return passed
}
