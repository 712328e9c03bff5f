// Package identity knows who is calling: users, the identities they sign in with,
// organizations and their members, sessions and personal access tokens.
//
// A [Directory] holds them in the database. It decides nothing about permissions:
// whoever calls has decided that the actor may. It does promise that
//
//   - a credential is stored as its SHA-256 only, shown once, and judged by the
//     database's clock; revoking, ending and disabling hold from the next request on;
//   - a change and its audit record are one transaction, so that neither is there
//     without the other; no record, error or log has a secret in it;
//   - a failure of the database is errs.Unavailable and never errs.Unauthenticated;
//   - an organization always keeps an administrator, and the installation a site
//     administrator, against everybody but the provider that lets them in: whoever
//     has left there is out here.
//
// # Signing in
//
// A [Connector] finds somebody at a provider, [Directory.Arrive] makes a user and a
// session of them. Memberships and teams follow the groups that the provider names,
// at each arrival and whenever [Directory.RunRechecks] asks again; what was given here
// by hand, and every role, is changed here only. An account that an organization's
// provider has made belongs to that organization ([User].ManagedBy): it is nowhere
// else, and signs in with nothing else.
//
// # Names
//
// A user's login and an organization's name are 1 to 39 characters: ASCII letters,
// digits, "_" and "-", the first a letter or digit. They share one namespace, unique
// without regard to case: /{org} and /{login} are both pages of the console, and an
// organization must not look like somebody's login, its own creator's included.
// Names are never freed.
//
// # E-mail
//
// A user's e-mail address is for display and contact. Two users may have the same
// one; it is unique only as the subject of the identity that signs in with e-mail
// and password. An address that some other connector vouches for links to nobody.
package identity

import (
	"context"
	"embed"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/internal/sealed"
)

//go:embed migrations/*.sql
var migrationFS embed.FS

// Migrations are the tables of this package.
var Migrations = database.Migrations{Name: "identity", FS: migrationFS}

// Recorder is the part of *audit.Log that an administrative change needs.
type Recorder interface {
	AppendDone(ctx context.Context, log string, e audit.Event, o audit.Outcome) (audit.Ref, error)
}

// Config is what a Directory needs.
type Config struct {
	DB    *database.DB
	Audit Recorder
	// Now is the clock that expiries are judged by; nil is the database's own.
	Now func() time.Time
	// Box seals the credentials that connectors ask their providers with. Nil: none is
	// kept, and nobody is asked about again.
	Box *sealed.Box
}

// Directory is the directory of one installation. It is safe for concurrent use.
type Directory struct {
	db    *database.DB
	store store
	audit Recorder
	use   usage
	box   *sealed.Box

	health health

	mu       sync.Mutex
	onChange []func(organizationID string)
	onDelete []func(ctx context.Context, userID string) error
}

// Open returns the directory in a migrated database. Somebody should call
// [Directory.Run], or no use of a token is noted and nothing is ever swept.
func Open(config Config) (*Directory, error) {
	if config.DB == nil || config.Audit == nil {
		return nil, errors.New("identity: a database and an audit log are needed")
	}
	return &Directory{
		db:    config.DB,
		store: store{db: config.DB, now: config.Now},
		audit: config.Audit,
		use:   usage{at: make(map[string]int64)},
		box:   config.Box,
	}, nil
}

// flushEvery is how often the use of tokens is written down, sweepEvery how often
// what has expired is deleted.
const (
	flushEvery = time.Minute
	sweepEvery = time.Hour
)

// Run writes down the use of tokens and deletes expired sessions, until ctx ends.
// Then it writes down what is left and returns nil. One failure does not stop it:
// the next turn tries again.
func (d *Directory) Run(ctx context.Context) error {
	flush, sweep := time.NewTicker(flushEvery), time.NewTicker(sweepEvery)
	defer flush.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = d.Flush(last) // what was not noted is a time of last use, and no more
			return nil
		case <-flush.C:
			_ = d.Flush(ctx) // kept in memory, and tried again in a minute
		case <-sweep.C:
			_, _ = d.Sweep(ctx) // a later sweep deletes the same rows
		}
	}
}

// OnChange has fn called after the commit of anything that changes an organization
// or its members, with the organization's ID, or "" for a change that may concern
// all of them. It is called before the call that made the change returns, possibly
// by several goroutines at once, and must be quick.
func (d *Directory) OnChange(fn func(organizationID string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onChange = append(d.onChange, fn)
}

// OnDelete has fn called for every user who is deleted, in the same transaction, so
// that other packages forget them too. Its error keeps the user.
func (d *Directory) OnDelete(fn func(ctx context.Context, userID string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onDelete = append(d.onDelete, fn)
}

// changed tells the listeners once the transaction of ctx has committed.
func (d *Directory) changed(ctx context.Context, organizationID string) {
	d.db.AfterCommit(ctx, func() {
		d.mu.Lock()
		listeners := d.onChange
		d.mu.Unlock()
		for _, fn := range listeners {
			fn(organizationID)
		}
	})
}

// record appends an event of something that has been done to log.
func (d *Directory) record(ctx context.Context, log string, e audit.Event) error {
	if e.Decision == "" {
		e.Decision = audit.Allow
	}
	_, err := d.audit.AppendDone(ctx, log, e, audit.Outcome{Result: audit.Succeeded})
	return err
}

// clean returns text fit to be shown: no control characters, no more than limit
// characters, no space around.
func clean(text string, limit int) string {
	text = strings.TrimSpace(httpapi.Clean(text, 8*limit))
	if runes := []rune(text); len(runes) > limit {
		text = strings.TrimSpace(string(runes[:limit-1])) + "…"
	}
	return text
}

// maxName bounds the display names of users and organizations, in characters.
const maxName = 100
