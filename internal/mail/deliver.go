package mail

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/httpapi"
)

const (
	patience  = 20 * time.Second // for the server: to connect, and again to take one mail
	grace     = 5 * time.Second  // for a mail under way when the process stops
	noting    = 10 * time.Second // for the database to take down what came of it
	lease     = 10 * time.Minute // for which a mail is claimed
	batch     = 16               // mails that are claimed together
	senders   = 4                // connections to the server
	firstWait = time.Minute      // after the first failure, twice as long after each more
	longWait  = time.Hour        // at most
	pollEvery = 30 * time.Second // for the mails of replicas that have died
	retention = 7 * 24 * time.Hour
)

// Run delivers mails, and forgets old ones, until ctx ends; then it returns nil, once
// mails under way are through or [grace] is over.
func (o *Outbox) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-o.woken:
		}
		wait, err := o.round(ctx)
		if err != nil && ctx.Err() == nil {
			o.log.WarnContext(ctx, "mails cannot be delivered now", "error", err)
		}
		timer.Reset(wait)
	}
}

// round delivers all that is due, and returns when to look again.
func (o *Outbox) round(ctx context.Context) (time.Duration, error) {
	if err := o.tidy(ctx); err != nil {
		return pollEvery, err
	}
	for o.smtp != nil && ctx.Err() == nil {
		n, err := o.deliver(ctx)
		if err != nil {
			return pollEvery, err
		}
		if n < batch {
			break
		}
	}
	due, err := o.store.due(ctx)
	if err != nil || due == 0 || o.smtp == nil {
		return pollEvery, err
	}
	now, err := o.store.clock(ctx)
	if err != nil {
		return pollEvery, err
	}
	return min(max(database.Time(due).Sub(now), time.Second), pollEvery), nil
}

// tidy takes the bodies of what has expired, and forgets what did long ago.
func (o *Outbox) tidy(ctx context.Context) error {
	now, err := o.store.clock(ctx)
	if err != nil {
		return err
	}
	expired, err := o.store.expire(ctx, database.Micros(now))
	if err != nil {
		return fmt.Errorf("expiring mails: %w", err)
	}
	if expired > 0 {
		o.log.WarnContext(ctx, "mails expired before they were delivered", "mails", expired)
	}
	if err := o.store.sweep(ctx, database.Micros(now.Add(-retention))); err != nil {
		return fmt.Errorf("forgetting mails: %w", err)
	}
	return nil
}

// deliver claims a batch and sends it over a few connections. It returns how many
// mails it has claimed.
func (o *Outbox) deliver(ctx context.Context) (int, error) {
	now, err := o.store.clock(ctx)
	if err != nil {
		return 0, err
	}
	rows, err := o.store.claim(ctx, rand.Text(), database.Micros(now), database.Micros(now.Add(lease)), batch)
	if err != nil {
		return 0, fmt.Errorf("claiming mails: %w", err)
	}
	// A mail that the server has in its hands when the process is told to stop would
	// be sent again if the connection were cut at once.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()

	queue := make(chan outboxRow, len(rows))
	for _, row := range rows {
		queue <- row
	}
	close(queue)
	var group sync.WaitGroup
	for range min(senders, len(rows)) {
		group.Go(func() {
			s := sender{outbox: o}
			defer s.hangUp(nil)
			for row := range queue {
				if ctx.Err() != nil { // somebody else's now
					o.note(ctx, row, func(ctx context.Context, now time.Time) error {
						return o.store.postpone(ctx, row, database.Micros(now), row.Attempts-1, row.Error)
					})
					continue
				}
				o.settle(ctx, row, s.send(work, row))
			}
		})
	}
	group.Wait()
	return len(rows), nil
}

// settle notes what came of an attempt.
func (o *Outbox) settle(ctx context.Context, row outboxRow, err error) {
	failure, _ := errors.AsType[*failure](err)
	o.note(ctx, row, func(ctx context.Context, now time.Time) error {
		o.mu.Lock()
		if err == nil {
			o.health.LastSuccess = now
		} else {
			o.health.LastFailure, o.health.Error = now, failure.text
		}
		o.mu.Unlock()
		switch {
		case err == nil:
			return o.store.delivered(ctx, row.ID)
		case failure.final:
			return o.store.fail(ctx, row, database.Micros(now), failure.text)
		}
		return o.store.postpone(ctx, row, database.Micros(now.Add(backoff(row.Attempts))), row.Attempts, failure.text)
	})
	fields := []any{"kind", row.Kind, "domain", domain(row.Recipient), "attempt", row.Attempts}
	switch {
	case err == nil:
		o.log.InfoContext(ctx, "mail delivered", fields...)
	case failure.final:
		o.log.WarnContext(ctx, "mail refused", append(fields, "error", failure.text)...)
	default:
		o.log.WarnContext(ctx, "mail postponed", append(fields, "error", failure.text)...)
	}
}

// note writes down what came of a mail although the process may be stopping.
func (o *Outbox) note(ctx context.Context, row outboxRow, write func(context.Context, time.Time) error) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), noting)
	defer cancel()
	now, err := o.store.clock(bounded)
	if err == nil {
		err = write(bounded, now)
	}
	if err != nil { // the claim runs out and the mail is tried again
		o.log.ErrorContext(ctx, "what came of a mail could not be noted", "kind", row.Kind, "error", err)
	}
}

// backoff returns how long to wait after so many attempts.
func backoff(attempts int64) time.Duration {
	return min(firstWait<<min(max(attempts-1, 0), 10), longWait)
}

// failure is why a mail was not delivered.
type failure struct {
	text  string // for administrators: no secret, no body
	final bool   // trying again is useless
}

func (f *failure) Error() string { return f.text }

// sender sends mails one after the other over one connection, which it makes when it
// is needed.
type sender struct {
	outbox *Outbox
	conn   net.Conn
	stop   func() bool // lets the connection outlive the process's end no more
	client *smtp.Client
}

// send delivers one mail; the error is a *failure.
func (s *sender) send(ctx context.Context, row outboxRow) error {
	o := s.outbox
	if now, err := o.store.clock(ctx); err != nil || now.Add(2*o.patience).After(database.Time(row.Due)) {
		return &failure{text: "it was not this mail's turn before its claim ran out"}
	}
	body, err := o.open(row)
	if err != nil {
		return &failure{text: "the mail was sealed with another key", final: true}
	}
	message, err := o.compose(row, body)
	if err != nil {
		return &failure{text: "the mail cannot be written: " + s.clean(err.Error(), row, body), final: true}
	}
	if s.client == nil {
		if err := s.dial(ctx); err != nil {
			s.hangUp(err)
			return &failure{text: s.clean(describe(err), row, body)}
		}
	}
	if err := s.transfer(row.Recipient, message); err != nil {
		s.hangUp(err)
		return &failure{text: s.clean(describe(err), row, body), final: permanent(err)}
	}
	return nil
}

// transfer is one mail transaction (RFC 5321 §3.3).
func (s *sender) transfer(recipient string, message *gomail.Msg) error {
	if err := s.client.UpdateDeadline(s.outbox.patience); err != nil {
		return err
	}
	if err := s.client.Mail("<" + s.outbox.from.Address + ">"); err != nil {
		return err
	}
	if err := s.client.Rcpt("<" + recipient + ">"); err != nil {
		return err
	}
	writer, err := s.client.Data()
	if err != nil {
		return err
	}
	if _, err := message.WriteTo(writer); err != nil {
		return err
	}
	return writer.Close()
}

// dial connects, secures the connection and signs in. The connection ends with ctx.
func (s *sender) dial(ctx context.Context) error {
	server, patience := s.outbox.smtp, s.outbox.patience
	config := &tls.Config{ServerName: server.Host, RootCAs: server.Roots, MinVersion: tls.VersionTLS12}
	dialer := net.Dialer{Timeout: patience}
	options := []gomail.Option{
		gomail.WithPort(server.Port), gomail.WithTimeout(patience), gomail.WithTLSConfig(config),
		gomail.WithDialContextFunc(func(dialing context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(dialing, network, address)
			if err != nil {
				return nil, err
			}
			if server.TLS == ImplicitTLS {
				conn = tls.Client(conn, config)
			}
			s.conn, s.stop = conn, context.AfterFunc(ctx, func() { _ = conn.Close() })
			return conn, nil
		}),
	}
	if server.TLS == StartTLS {
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	} else {
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	}
	if server.Username != "" {
		options = append(options, gomail.WithUsername(server.Username), gomail.WithPassword(server.Password),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthPlain, gomail.SMTPAuthLogin))
	}
	client, err := gomail.NewClient(server.Host, options...)
	if err != nil {
		return err
	}
	s.client, err = client.DialToSMTPClientWithContext(ctx)
	return err
}

// hangUp ends the connection after err, politely when the server still answers.
func (s *sender) hangUp(err error) {
	_, answered := errors.AsType[*textproto.Error](err)
	if s.client != nil && (err == nil || answered) {
		_ = s.client.UpdateDeadline(time.Second)
		_ = s.client.Quit()
	}
	if s.conn != nil {
		s.stop()
		_ = s.conn.Close()
	}
	s.conn, s.stop, s.client = nil, nil, nil
}

// compose writes a mail (RFC 5322) that no auto-responder answers (RFC 3834 §5).
func (o *Outbox) compose(row outboxRow, body content) (*gomail.Msg, error) {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithCharset(gomail.CharsetUTF8))
	m.FromMailAddress(o.from)
	if err := m.To(row.Recipient); err != nil {
		return nil, errors.New("the address is not one")
	}
	m.Subject(row.Subject)
	m.SetMessageIDWithValue(row.ID + "@" + domain(o.from.Address))
	m.SetDateWithValue(database.Time(row.Created))
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBodyString(gomail.TypeTextPlain, body.Text)
	return m, nil
}

// ours are answers about us and not about the mail, for which RFC 4954 §6 has codes
// that look permanent: a right password helps.
var ours = map[int]bool{530: true, 534: true, 535: true, 538: true}

// permanent reports whether the server has said that it will never take the mail.
func permanent(err error) bool {
	answer, ok := errors.AsType[*textproto.Error](err)
	return ok && answer.Code >= 500 && answer.Code < 600 && !ours[answer.Code]
}

// describe says what went wrong, for administrators.
func describe(err error) string {
	if answer, ok := errors.AsType[*textproto.Error](err); ok {
		return "the mail server answered: " + strconv.Itoa(answer.Code) + " " + answer.Msg
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "the mail server did not answer in time"
	}
	if unknown, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the mail server's certificate is not accepted: " + unknown.Err.Error()
	}
	if unknown, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the mail server's certificate is not accepted: " + unknown.Error()
	}
	return "the connection to the mail server failed: " + err.Error()
}

// maxError bounds the text of a failure.
const maxError = 300

// What a server that quotes the mail in its answer could give away: secrets, and the
// parts of them that the mail's encoding has put on lines of their own.
var (
	secrets = regexp.MustCompile(`https?://\S+|[A-Za-z0-9_+/=-]{32,}`)
	word    = regexp.MustCompile(`[A-Za-z0-9_-]{4,}`)
)

// clean makes a text fit to be kept: servers may quote the mail that they refuse.
func (s *sender) clean(text string, row outboxRow, body content) string {
	for _, secret := range []string{body.Link, row.Recipient, s.outbox.smtp.Password} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[…]")
		}
	}
	text = secrets.ReplaceAllString(strings.ReplaceAll(text, "\n", " "), "[…]")
	text = word.ReplaceAllStringFunc(text, func(part string) string {
		if strings.Contains(body.Link, strings.TrimPrefix(part, "3D")) { // "=" in quoted-printable
			return "[…]"
		}
		return part
	})
	return httpapi.Clean(text, maxError)
}
