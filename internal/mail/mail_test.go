package mail_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/mail"
	"github.com/ipuka/ipuka/internal/sealed"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type office struct {
	*mail.Outbox
	t     *testing.T
	db    *database.DB
	clock *clock
	log   *bytes.Buffer
}

func box(t *testing.T) *sealed.Box {
	t.Helper()
	b, err := sealed.New(bytes.Repeat([]byte{7}, sealed.KeySize), "mail")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// open returns an outbox that sends to s, or to nobody.
func open(t *testing.T, db *database.DB, s *server, change func(*mail.SMTP)) office {
	t.Helper()
	o := office{t: t, db: db, clock: &clock{now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}, log: &bytes.Buffer{}}
	config := mail.Config{
		DB: db, Box: box(t), From: "Ipuka <ipuka@acme.test>", Now: o.clock.Now,
		Log: slog.New(slog.NewTextHandler(o.log, nil)),
	}
	if s != nil {
		config.SMTP = &mail.SMTP{Host: "127.0.0.1", Port: s.port(), Username: user, Password: password, Roots: s.roots}
		if change != nil {
			change(config.SMTP)
		}
	}
	var err error
	if o.Outbox, err = mail.Open(config); err != nil {
		t.Fatal(err)
	}
	return o
}

const link = "https://ipuka.acme.test/invite?code=Zm9vYmFyYmF6cXV4cXV1eHF1dXphbmRtb3JlYml0czE"

func (o office) message(name string) mail.Message {
	return mail.Message{
		To: name + "@people.test", Subject: "You are invited: Grüße", Kind: "invite",
		Text: "Hello.\n\nOpen this:\n" + link, Link: link, Expires: o.clock.Now().Add(24 * time.Hour),
	}
}

func (o office) send(name string) {
	o.t.Helper()
	if err := o.Send(context.Background(), o.message(name)); err != nil {
		o.t.Fatal(err)
	}
}

func (o office) round() {
	o.t.Helper()
	if _, err := o.Round(context.Background()); err != nil {
		o.t.Fatal(err)
	}
}

func (o office) undelivered() []mail.Waiting {
	o.t.Helper()
	list, next, err := o.Undelivered(context.Background(), "", 0)
	if err != nil || next != "" {
		o.t.Fatal(err, next)
	}
	return list
}

// bodies returns how many rows still have one.
func (o office) bodies() int {
	o.t.Helper()
	var n int
	if _, err := o.db.QueryRow(context.Background(), "SELECT COUNT(*) FROM mail_outbox WHERE body IS NOT NULL", nil, &n); err != nil {
		o.t.Fatal(err)
	}
	return n
}

func TestOpenRefuses(t *testing.T) {
	db := databasetest.SQLite(t, mail.Migrations)
	for name, change := range map[string]func(*mail.Config){
		"no database":             func(c *mail.Config) { c.DB = nil },
		"no key":                  func(c *mail.Config) { c.Box = nil },
		"no host":                 func(c *mail.Config) { c.SMTP.Host = "" },
		"no sender":               func(c *mail.Config) { c.From = "" },
		"line break in sender":    func(c *mail.Config) { c.From = "a@acme.test\r\nBcc: b@acme.test" },
		"no TLS to somebody else": func(c *mail.Config) { c.SMTP.TLS = mail.NoTLS },
		"unknown TLS":             func(c *mail.Config) { c.SMTP.TLS = "maybe" },
		"port":                    func(c *mail.Config) { c.SMTP.Port = 70000 },
		"password without a name": func(c *mail.Config) { c.SMTP.Password = password },
	} {
		c := mail.Config{DB: db, Box: box(t), From: "ipuka@acme.test", SMTP: &mail.SMTP{Host: "mx.acme.test"}}
		if _, err := mail.Open(c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := mail.Open(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSendRefuses(t *testing.T) {
	o := open(t, databasetest.SQLite(t, mail.Migrations), nil, nil)
	for name, change := range map[string]func(*mail.Message){
		"header in To":         func(m *mail.Message) { m.To = "a@people.test\r\nBcc: b@people.test" },
		"control in To":        func(m *mail.Message) { m.To = "a\u0085b@people.test" },
		"line feed in To":      func(m *mail.Message) { m.To = "a@people.test\n" },
		"two recipients":       func(m *mail.Message) { m.To = "a@people.test,b@people.test" },
		"a name":               func(m *mail.Message) { m.To = "A <a@people.test>" },
		"two signs":            func(m *mail.Message) { m.To = "a@evil.test@people.test" },
		"quoted":               func(m *mail.Message) { m.To = `"a b"@people.test` },
		"no domain":            func(m *mail.Message) { m.To = "a@" },
		"literal domain":       func(m *mail.Message) { m.To = "a@[127.0.0.1]" },
		"space":                func(m *mail.Message) { m.To = "a@people.test SIZE=1" },
		"angle":                func(m *mail.Message) { m.To = "a@people.test>" },
		"nothing":              func(m *mail.Message) { m.To = "" },
		"long":                 func(m *mail.Message) { m.To = strings.Repeat("a", 250) + "@people.test" },
		"not UTF-8":            func(m *mail.Message) { m.To = "a\xff@people.test" },
		"header in Subject":    func(m *mail.Message) { m.Subject = "Hello\r\nBcc: b@people.test" },
		"bare CR in Subject":   func(m *mail.Message) { m.Subject = "Hello\rBcc: b@people.test" },
		"separator in Subject": func(m *mail.Message) { m.Subject = "Hello\u2028Bcc: b@people.test" },
		"no subject":           func(m *mail.Message) { m.Subject = "" },
		"no text":              func(m *mail.Message) { m.Text = "" },
		"NUL":                  func(m *mail.Message) { m.Text = "a\x00b" },
		"huge":                 func(m *mail.Message) { m.Text = strings.Repeat("a", 1<<17) },
		"expired":              func(m *mail.Message) { m.Expires = o.clock.Now() },
		"line break in Link":   func(m *mail.Message) { m.Link = "https://a.test\n" },
	} {
		m := o.message("ann")
		change(&m)
		if err := o.Send(context.Background(), m); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(o.undelivered()) != 0 {
		t.Error("a refused mail is in the outbox")
	}
}

func TestDelivery(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		s := serve(t, nil)
		o := open(t, db, s, nil)
		o.send("ann")
		var stored []byte
		if _, err := db.QueryRow(context.Background(), "SELECT body FROM mail_outbox", nil, &stored); err != nil || bytes.Contains(stored, []byte("code=")) || len(stored) == 0 {
			t.Errorf("the body is not sealed: %q, %v", stored, err)
		}
		o.round()
		mails := s.mails()
		if len(mails) != 1 {
			t.Fatalf("%d mails, log: %s", len(mails), o.log)
		}
		got := mails[0]
		if !got.Secure || got.User != user || got.To != "ann@people.test" || !strings.HasPrefix(got.From, "FROM:<ipuka@acme.test>") {
			t.Errorf("got %+v", got)
		}
		for header, want := range map[string]string{
			"From": `"Ipuka" <ipuka@acme.test>`, "To": "<ann@people.test>", "Auto-Submitted": "auto-generated",
			"Date": "Wed, 04 Mar 2026 05:06:07 +0000", "Content-Type": "text/plain; charset=UTF-8",
		} {
			if got.Header.Get(header) != want {
				t.Errorf("%s: %q, want %q", header, got.Header.Get(header), want)
			}
		}
		if id := got.Header.Get("Message-ID"); !strings.HasSuffix(id, "@acme.test>") {
			t.Errorf("Message-ID %q", id)
		}
		if len(o.undelivered()) != 0 {
			t.Error("a delivered mail is still in the outbox")
		}
		if h, err := o.Health(context.Background()); err != nil || !h.LastSuccess.Equal(o.clock.Now()) || !h.LastFailure.IsZero() || h.Waiting != 0 {
			t.Errorf("health %+v, %v", h, err)
		}
		o.round()
		if len(s.mails()) != 1 {
			t.Error("sent twice")
		}
		if strings.Contains(o.log.String(), "ann") || strings.Contains(o.log.String(), "code=") || !strings.Contains(o.log.String(), "people.test") {
			t.Errorf("log: %s", o.log)
		}
	}, mail.Migrations)
}

// A mail is sent exactly when what it tells of is there, and then at once.
func TestTransaction(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		s := serve(t, nil)
		o := open(t, db, s, nil)
		ctx, cancel := context.WithCancel(context.Background())
		changed := errors.New("changed my mind")
		if err := db.Tx(ctx, func(ctx context.Context) error {
			if err := o.Send(ctx, o.message("undone")); err != nil {
				return err
			}
			return changed
		}); !errors.Is(err, changed) || o.Woken() {
			t.Fatal(err, "or woken by what is not there")
		}
		if err := db.Tx(ctx, func(ctx context.Context) error {
			defer func() {
				if o.Woken() {
					t.Error("woken before the commit")
				}
			}()
			return o.Send(ctx, o.message("ann"))
		}); err != nil {
			t.Fatal(err)
		}
		if !o.Woken() {
			t.Error("not woken by the commit")
		}
		done := make(chan error)
		go func() { done <- o.Run(ctx) }()
		for _, want := range []string{"ann@people.test", "bob@people.test"} {
			if got := <-s.arrived; got.To != want {
				t.Errorf("got %s", got.To)
			}
			if want != "bob@people.test" {
				o.send("bob")
			}
		}
		cancel()
		if err := <-done; err != nil || len(s.mails()) != 2 {
			t.Errorf("%v, %d mails", err, len(s.mails()))
		}
	}, mail.Migrations)
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		server func(*server)
		client func(*mail.SMTP)
		final  bool
		text   string
	}{
		{name: "tempfail", text: "451 4.7.1 greylisted, try again"},
		{name: "reject", final: true, text: "550 5.1.1 no such user: […]"},
		{name: "quote", final: true, text: "554 5.7.1 looks like spam: […], […]"},
		{name: "drop", text: "EOF"},
		{name: "slow", text: "did not answer in time"},
		{name: "busy", server: func(s *server) { s.greeting = "421 4.3.2 too busy" }, text: "421 4.3.2 too busy"},
		{name: "closed", server: func(s *server) { s.greeting = "554 5.3.2 not today" }, text: "554 5.3.2 not today"},
		{name: "password", client: func(c *mail.SMTP) { c.Password = "wrong-pw-77" }, text: "535 5.7.8 bad credentials for  mailer […]"},
		{name: "certificate", client: func(c *mail.SMTP) { c.Roots = x509.NewCertPool() }, text: "certificate is not accepted"},
		{name: "stripped", server: func(s *server) { s.noTLS = true }, text: "does not support STARTTLS"},
		{name: "anonymous", client: func(c *mail.SMTP) { c.Username, c.Password = "", "" }, text: "530 5.7.0 sign in first"},
		{name: "nobody", server: func(s *server) { s.listener.Close() }, text: "connection refused"},
		{name: "plain", client: func(c *mail.SMTP) { c.TLS = mail.ImplicitTLS }, text: "connection to the mail server failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, test.server)
			t.Cleanup(func() { close(s.release) })
			o := open(t, databasetest.SQLite(t, mail.Migrations), s, test.client)
			o.SetPatience(300 * time.Millisecond)
			o.send(test.name)
			o.round()
			list := o.undelivered()
			if len(list) != 1 {
				t.Fatalf("%d mails wait, log: %s", len(list), o.log)
			}
			w := list[0]
			if !strings.Contains(w.Error, test.text) || w.Failed.IsZero() == test.final || w.Link != "" {
				t.Errorf("got %+v", w)
			}
			for _, secret := range []string{"code=", "Zm9v", "l0czE", "wrong-pw-77"} {
				if strings.Contains(w.Error+o.log.String(), secret) {
					t.Errorf("a secret is in %q or %s", w.Error, o.log)
				}
			}
			if strings.Contains(o.log.String(), test.name+"@") {
				t.Errorf("an address is in the log: %s", o.log)
			}
			if gone := o.bodies() == 0; gone != test.final {
				t.Errorf("body gone: %v", gone)
			}
			if h, err := o.Health(context.Background()); err != nil || h.Error != w.Error || h.LastFailure.IsZero() {
				t.Errorf("health %+v, %v", h, err)
			}
			if len(s.mails()) != 0 {
				t.Error("it was delivered all the same")
			}
		})
	}
}

func TestRetries(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		s := serve(t, nil)
		o := open(t, db, s, nil)
		o.send("tempfail")
		o.send("reject")
		began := o.clock.Now()
		var waits []time.Duration
		for tries := 0; s.tries("tempfail") < 9; {
			o.round()
			if now := s.tries("tempfail"); now > tries {
				tries = now
				waits = append(waits, o.clock.Now().Sub(began).Round(time.Minute))
				began = o.clock.Now()
			}
			o.clock.Advance(30 * time.Second)
		}
		if got := fmt.Sprint(waits); got != "[0s 1m0s 2m0s 4m0s 8m0s 16m0s 32m0s 1h0m0s 1h0m0s]" {
			t.Errorf("waited %s", got)
		}
		if s.tries("reject") != 1 {
			t.Errorf("a final refusal was tried %d times", s.tries("reject"))
		}
		o.clock.Advance(24 * time.Hour)
		tries := s.tries("tempfail")
		o.round()
		if s.tries("tempfail") != tries || o.bodies() != 0 {
			t.Errorf("an expired mail was tried, or has a body")
		}
		if list := o.undelivered(); len(list) != 2 || list[0].Failed.IsZero() || list[1].Failed.IsZero() || !list[0].Next.IsZero() {
			t.Errorf("got %+v", list)
		}
		o.clock.Advance(mail.Retention)
		o.round()
		if list := o.undelivered(); len(list) != 0 {
			t.Errorf("not forgotten: %+v", list)
		}
	}, mail.Migrations)
}

// Replicas share the work, and one that dies leaves its mails to the others.
func TestReplicas(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		s := serve(t, nil)
		first := open(t, db, s, nil)
		second := open(t, db, s, nil)
		const n = 3*mail.Batch + 1
		for i := range n {
			first.send(fmt.Sprintf("p%d", i))
		}
		var group sync.WaitGroup
		for _, o := range []office{first, second, first, second} {
			group.Go(func() {
				if _, err := o.Round(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		seen := map[string]int{}
		for _, m := range s.mails() {
			seen[m.To]++
		}
		for to, times := range seen {
			if times != 1 {
				t.Errorf("%s got %d mails", to, times)
			}
		}
		if len(seen) != n {
			t.Errorf("%d of %d mails", len(seen), n)
		}

		first.send("left")
		if err := db.Conn(context.Background()).Exec("UPDATE mail_outbox SET claim = 'dead', due = ?",
			database.Micros(first.clock.Now().Add(mail.Lease))).Error; err != nil {
			t.Fatal(err)
		}
		first.round()
		if len(s.mails()) != n {
			t.Error("a claimed mail was sent")
		}
		first.clock.Advance(mail.Lease)
		first.round()
		if len(s.mails()) != n+1 {
			t.Error("the mail of a dead replica was not sent")
		}
	}, mail.Migrations)
}

// A process that stops gives back what it has claimed, and lets the mail that the
// server has in its hands get through.
func TestStop(t *testing.T) {
	s := serve(t, nil)
	o := open(t, databasetest.SQLite(t, mail.Migrations), s, nil)
	for range mail.Batch / 2 {
		o.send("slow")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	for range 4 {
		<-s.asked
	}
	cancel()
	close(s.release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := len(s.mails()); n != 4 {
		t.Errorf("%d mails got through", n)
	}
	list := o.undelivered()
	if len(list) != 4 {
		t.Errorf("%d mails wait", len(list))
	}
	for _, w := range list {
		if w.Next.After(o.clock.Now()) || w.Error != "" {
			t.Errorf("not given back: %+v", w)
		}
	}
}

func TestTLS(t *testing.T) {
	for name, test := range map[string]struct {
		server func(*server)
		client func(*mail.SMTP)
		secure bool
	}{
		"implicit": {func(s *server) { s.implicit = true }, func(c *mail.SMTP) { c.TLS = mail.ImplicitTLS }, true},
		"none":     {func(s *server) { s.noTLS = true }, func(c *mail.SMTP) { c.TLS = mail.NoTLS }, false},
		"name":     {nil, func(c *mail.SMTP) { c.Host = "localhost" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, test.server)
			o := open(t, databasetest.SQLite(t, mail.Migrations), s, test.client)
			o.send("ann")
			o.round()
			if mails := s.mails(); len(mails) != 1 || mails[0].Secure != test.secure || mails[0].User != user {
				t.Errorf("got %+v, log: %s", mails, o.log)
			}
		})
	}
}

func TestWithoutServer(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		o := open(t, db, nil, nil)
		for i := range 5 {
			o.send(fmt.Sprintf("p%d", i))
			o.clock.Advance(time.Minute)
		}
		o.round()
		var to []string
		var last mail.Waiting
		cursor := ""
		for {
			page, next, err := o.Undelivered(context.Background(), cursor, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range page {
				last = w
				to = append(to, w.To)
				if w.Link != link || w.Kind != "invite" || w.Error != "" || !w.Next.IsZero() {
					t.Errorf("got %+v", w)
				}
			}
			if cursor = next; next == "" {
				break
			}
		}
		if got := strings.Join(to, " "); got != "p0@people.test p1@people.test p2@people.test p3@people.test p4@people.test" {
			t.Errorf("listed %s", got)
		}
		if err := o.Remove(context.Background(), last.ID); err != nil {
			t.Fatal(err)
		}
		if err := o.Remove(context.Background(), last.ID); !errors.Is(err, errs.NotFound) {
			t.Errorf("removed twice: %v", err)
		}
		if h, err := o.Health(context.Background()); err != nil || h.Configured || h.Waiting != 4 {
			t.Errorf("health %+v, %v", h, err)
		}
		for _, cursor := range []string{"?", "MQ", "MQph"} {
			if _, _, err := o.Undelivered(context.Background(), cursor, 1); !errors.Is(err, errs.Invalid) {
				t.Errorf("cursor %q: %v", cursor, err)
			}
		}
		o.clock.Advance(24 * time.Hour)
		if list := o.undelivered(); len(list) != 4 || list[0].Link != "" {
			t.Errorf("the link of an expired mail is shown: %+v", list)
		}
		o.round()
		if o.bodies() != 0 {
			t.Error("expired bodies are still there")
		}

		// With a server that is set up later, what waits is sent.
		o.send("late")
		s := serve(t, nil)
		later := open(t, db, s, nil)
		later.clock.Advance(o.clock.Now().Sub(later.clock.Now()))
		later.round()
		if mails := s.mails(); len(mails) != 1 || mails[0].To != "late@people.test" {
			t.Errorf("got %+v", mails)
		}
	}, mail.Migrations)
}

// A body that was moved to another recipient, by whoever writes to the database, does
// not go out.
func TestMovedBody(t *testing.T) {
	db := databasetest.SQLite(t, mail.Migrations)
	s := serve(t, nil)
	o := open(t, db, s, nil)
	o.send("ann")
	if err := db.Conn(context.Background()).Exec("UPDATE mail_outbox SET recipient = 'eve@evil.test'").Error; err != nil {
		t.Fatal(err)
	}
	o.round()
	if list := o.undelivered(); len(s.mails()) != 0 || len(list) != 1 || list[0].Failed.IsZero() {
		t.Errorf("%d mails, %+v", len(s.mails()), list)
	}
}
