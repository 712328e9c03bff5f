// Package mail keeps mails until they are delivered.
//
// [Outbox.Send] writes a mail in the caller's transaction, so that there is a mail
// exactly when there is what it tells of; [Outbox.Run] hands it to an SMTP server
// (RFC 5321) and tries again while that is worth it. Without an SMTP server a mail
// waits, and an administrator gives its link to the person ([Outbox.Undelivered]).
//
// Promises: a mail that Send has taken is durable when the transaction is. Text and
// link are sealed at rest, are gone once the mail is delivered, refused or expired,
// and are in no log; nor are addresses, but for their domains. Replicas do not
// deliver the same mail, as each claims it for a while first. A process that dies
// between the server's consent and its own note of it makes for a second copy, with
// the same Message-ID.
package mail

import (
	"context"
	"crypto/x509"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/sealed"
)

//go:embed migrations/*.sql
var migrationFS embed.FS

// Migrations are the tables of this package.
var Migrations = database.Migrations{Name: "mail", FS: migrationFS}

// Security of the connection to the server.
const (
	StartTLS    = "starttls" // RFC 3207, required of the server
	ImplicitTLS = "implicit" // RFC 8314 §3
	NoTLS       = "none"     // to the same machine only
)

// SMTP is the server that takes mails.
type SMTP struct {
	Host               string
	Port               int // 587 with StartTLS, 465 with ImplicitTLS and 25 with NoTLS unless set
	Username, Password string
	TLS                string         // StartTLS unless set
	Roots              *x509.CertPool // verify the server, the system's unless set
}

// Config is what an Outbox is made of.
type Config struct {
	DB   *database.DB
	Box  *sealed.Box // of this purpose alone
	SMTP *SMTP       // nil: nothing is sent
	From string      // such as "Ipuka <ipuka@acme.test>"; required with SMTP
	Log  *slog.Logger
	Now  func() time.Time // for tests: the database's clock unless set
}

// Outbox holds mails until they are delivered. It is safe for concurrent use.
type Outbox struct {
	store store
	box   *sealed.Box
	smtp  *SMTP
	from  *mail.Address
	log   *slog.Logger
	woken chan struct{}

	patience time.Duration

	mu     sync.Mutex // guards health
	health Health
}

// Open returns the outbox in a migrated database. The error is one line for the
// operator.
func Open(c Config) (*Outbox, error) {
	if c.DB == nil || c.Box == nil {
		return nil, errors.New("mail: a database and a key to seal with are required")
	}
	o := &Outbox{store: store{c.DB, c.Now}, box: c.Box, log: c.Log, woken: make(chan struct{}, 1), patience: patience}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if c.SMTP == nil {
		return o, nil
	}
	server := *c.SMTP
	if err := server.complete(); err != nil {
		return nil, err
	}
	from, err := mail.ParseAddress(c.From)
	if err != nil || bad(c.From) {
		return nil, fmt.Errorf("mail: the sender %q is not a mail address", c.From)
	}
	o.smtp, o.from, o.health.Configured = &server, from, true
	return o, nil
}

// complete fills in what is not set, and checks the rest.
func (s *SMTP) complete() error {
	if s.Host == "" || bad(s.Host) {
		return errors.New("mail: the host of the SMTP server is missing")
	}
	ports := map[string]int{StartTLS: 587, ImplicitTLS: 465, NoTLS: 25}
	if s.TLS == "" {
		s.TLS = StartTLS
	}
	port, ok := ports[s.TLS]
	if !ok {
		return fmt.Errorf("mail: TLS to the SMTP server is %q, %q or %q, not %q", StartTLS, ImplicitTLS, NoTLS, s.TLS)
	}
	if s.TLS == NoTLS && !loopback(s.Host) {
		return fmt.Errorf("mail: without TLS the SMTP server must be on this machine, not %s", s.Host)
	}
	if s.Port == 0 {
		s.Port = port
	}
	if s.Port < 0 || s.Port > 65535 {
		return fmt.Errorf("mail: %d is not a port", s.Port)
	}
	if s.Password != "" && s.Username == "" {
		return errors.New("mail: there is a password for the SMTP server, but no user name")
	}
	return nil
}

func loopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback()
	}
	return host == "localhost"
}

// Message is a mail to one person.
type Message struct {
	To      string // an address, nothing else
	Subject string // one line; it is not sealed, so it has no secret
	Text    string // plain text, with Link in it
	Link    string // what has to reach the person when there is no SMTP server; "" for nothing
	Kind    string // "invite", "reset": for administrators and logs
	Expires time.Time
}

// The limits of a message.
const (
	maxAddress = 254
	maxSubject = 200
	maxText    = 64 << 10
)

// content is the sealed part of a message.
type content struct {
	Text string `json:"text"`
	Link string `json:"link,omitempty"`
}

// Send puts a message into the outbox, as part of ctx's transaction when there is
// one. It is delivered until Expires. The error is errs.Invalid for an address or a
// text that cannot be mailed, such as one with a line break in To or Subject.
func (o *Outbox) Send(ctx context.Context, m Message) error {
	now, err := o.store.clock(ctx)
	if err != nil {
		return fmt.Errorf("sending a mail: %w", err)
	}
	if err := check(m, now); err != nil {
		return err
	}
	plain, err := json.Marshal(content{m.Text, m.Link})
	if err != nil {
		return fmt.Errorf("sealing a mail: %w", err)
	}
	row := outboxRow{
		ID: uuid.NewString(), Kind: m.Kind, Recipient: m.To, Subject: m.Subject,
		Created: database.Micros(now), Expires: database.Micros(m.Expires), Due: database.Micros(now),
	}
	row.Body = o.box.Seal(plain, row.context())
	if err := o.store.insert(ctx, row); err != nil {
		return fmt.Errorf("sending a mail: %w", err)
	}
	o.store.db.AfterCommit(ctx, o.wake)
	return nil
}

func (o *Outbox) wake() {
	select {
	case o.woken <- struct{}{}:
	default:
	}
}

func (o *Outbox) open(row outboxRow) (content, error) {
	plain, err := o.box.Open(row.Body, row.context())
	if err != nil {
		return content{}, err
	}
	var c content
	return c, json.Unmarshal(plain, &c)
}

func check(m Message, now time.Time) error {
	switch {
	case !validAddress(m.To):
		return errs.Errorf(errs.Invalid, "this is not an address that mails can be sent to")
	case m.Subject == "" || len(m.Subject) > maxSubject || bad(m.Subject):
		return errs.Errorf(errs.Invalid, "the subject of a mail is one line of at most %d bytes", maxSubject)
	case m.Text == "" || len(m.Text) > maxText || !utf8.ValidString(m.Text) || strings.ContainsRune(m.Text, 0):
		return errs.Errorf(errs.Invalid, "the text of a mail has at most %d bytes of UTF-8", maxText)
	case bad(m.Link):
		return errs.Errorf(errs.Invalid, "the link of a mail is one line")
	case !m.Expires.After(now):
		return errs.Errorf(errs.Invalid, "a mail needs a time until which it is worth delivering")
	}
	return nil
}

// validAddress admits one plain address: no name, no comment, no quotes, and nothing
// that could end the SMTP command or the header that it is put in.
func validAddress(s string) bool {
	if s == "" || len(s) > maxAddress || bad(s) || strings.ContainsAny(s, " <>(),;:\"\\[]") || strings.Count(s, "@") != 1 {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && a.Name == "" && domain(s) != ""
}

// bad reports control characters, line breaks of any kind, and what is not UTF-8.
func bad(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool {
		return unicode.IsControl(c) || c == 0x2028 || c == 0x2029
	})
}

// domain returns the part of an address that may be logged.
func domain(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

// Waiting is a mail that has not been delivered, for site administrators.
type Waiting struct {
	ID, Kind, To, Subject string
	Link                  string // only without an SMTP server, until the mail expires
	Created, Expires      time.Time
	Next                  time.Time // of the next attempt; zero for none
	Failed                time.Time // since when it will not be delivered any more; zero while it may
	Error                 string    // what the last attempt came to; it has no secret
}

// Undelivered returns a page of the mails that have not been delivered, the oldest
// first, and the next cursor.
func (o *Outbox) Undelivered(ctx context.Context, cursor string, limit int) ([]Waiting, string, error) {
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	now, err := o.store.clock(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("listing mails: %w", err)
	}
	rows, next, err := o.store.page(ctx, cursor, limit)
	if err != nil {
		return nil, "", fmt.Errorf("listing mails: %w", err)
	}
	out := make([]Waiting, len(rows))
	for i, row := range rows {
		w := row.waiting()
		if o.smtp != nil && row.Failed == 0 {
			w.Next = database.Time(row.Due)
		}
		if o.smtp == nil && row.Body != nil && w.Expires.After(now) {
			c, err := o.open(row)
			if err != nil {
				w.Error = "the mail was sealed with another key"
			}
			w.Link = c.Link
		}
		out[i] = w
	}
	return out, next, nil
}

// Remove takes a mail out, delivered by hand or not wanted; errs.NotFound without it.
func (o *Outbox) Remove(ctx context.Context, id string) error {
	found, err := o.store.remove(ctx, id)
	if err != nil {
		return fmt.Errorf("removing a mail: %w", err)
	}
	if !found {
		return errs.Errorf(errs.NotFound, "there is no such mail any more")
	}
	return nil
}

// Health is how delivery goes. The times are of this process and zero before the
// first event.
type Health struct {
	Configured  bool // there is an SMTP server
	LastSuccess time.Time
	LastFailure time.Time
	Error       string // of LastFailure; it has no secret
	Waiting     int64  // mails that are to be delivered, by anybody
	Failed      int64  // mails that could not be delivered, lately
}

// Health returns how delivery goes.
func (o *Outbox) Health(ctx context.Context) (Health, error) {
	waiting, failed, err := o.store.counts(ctx)
	if err != nil {
		return Health{}, fmt.Errorf("counting mails: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.health
	h.Waiting, h.Failed = waiting, failed
	return h, nil
}
