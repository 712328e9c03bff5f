// Package audit keeps the record of who did what: an append-only log for each
// organization, and one ([Site]) for what belongs to no organization.
//
// An action is recorded twice: as an event before it is carried out ([Log.Append]),
// and as the outcome afterwards ([Log.Complete]), so that nothing can happen without
// a trace. What has no outcome on record ended unknown. What is over at once, an
// administrative change in its own transaction or a refusal, is one record
// ([Log.AppendDone]).
//
// Promises: a record is durable when the call that wrote it returns without an
// error. Nothing is ever rewritten: an outcome is a record of its own that points to
// its event, and triggers refuse UPDATE and DELETE. Each log is contiguous from
// index 0, its times never decrease, and both hold with several processes on one
// PostgreSQL database. A record is one canonical JSON text, kept byte for byte.
//
// Not promised: whoever owns the database file or its server can drop the triggers
// and rewrite a log.
package audit

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/httpapi"
)

//go:embed migrations/*.sql
var migrationFS embed.FS

// Migrations are the tables of this package.
var Migrations = database.Migrations{Name: "audit", FS: migrationFS}

// patience bounds how long a record may take. The client's own patience does not
// count: somebody who hangs up must not be able to act without a record.
const patience = 10 * time.Second

// Config is what a Log needs.
type Config struct {
	DB *database.DB // migrated
}

// Log is every log of an installation. It is safe for concurrent use.
type Log struct {
	db    *database.DB
	queue queue
}

// Open returns the logs in config.DB.
func Open(config Config) (*Log, error) {
	if config.DB == nil {
		return nil, errors.New("audit: no database")
	}
	return &Log{db: config.DB}, nil
}

// Close waits for records under way. Every later call that records is refused with
// errs.Unavailable; reading goes on.
func (l *Log) Close() { l.queue.close() }

// Append records an event whose outcome is to follow, and returns its place. The
// request's ID, address and user agent come from the request of ctx.
//
// Inside a transaction of the database the record becomes part of it, and is durable
// when that commits. Outside of one the call shares a commit with others, is not
// ended by the cancellation of ctx, and takes at most ten seconds. A failure of the
// database is errs.Unavailable; then the action must not be carried out. An event
// that is not in the [Catalogue] is an error without a kind.
//
// A transaction that has appended to a log holds it until its end: do not wait in
// there for an Append outside of it.
func (l *Log) Append(ctx context.Context, log string, e Event) (Ref, error) {
	return l.append(ctx, log, e, nil)
}

// AppendDone records an event together with its outcome: a change that ctx's
// transaction makes, or a refusal. It promises what [Log.Append] does.
func (l *Log) AppendDone(ctx context.Context, log string, e Event, o Outcome) (Ref, error) {
	return l.append(ctx, log, e, &o)
}

func (l *Log) append(ctx context.Context, log string, e Event, o *Outcome) (Ref, error) {
	if log == "" {
		return Ref{}, errors.New("audit: an event belongs to a log")
	}
	f, err := newEvent(e, o, httpapi.RequestOf(ctx))
	if err != nil {
		return Ref{}, err
	}
	return l.record(ctx, &pending{log: log, leaf: f})
}

// Complete records the outcome of the event at ref, once. It promises what
// [Log.Append] does. An event that has an outcome, or is not there, is
// errs.Conflict.
func (l *Log) Complete(ctx context.Context, ref Ref, o Outcome) error {
	f, err := newOutcome(ref.Index, o, httpapi.RequestOf(ctx))
	if err != nil {
		return err
	}
	_, err = l.record(ctx, &pending{log: ref.Log, leaf: f})
	return err
}

func (l *Log) record(ctx context.Context, p *pending) (Ref, error) {
	if !l.db.InTx(ctx) {
		if err := l.share(ctx, p); err != nil {
			return Ref{}, fmt.Errorf("writing the audit log: %w", err)
		}
		return p.ref, nil
	}
	if err := l.write(ctx, p.log, []*pending{p}); err != nil {
		return Ref{}, fmt.Errorf("writing the audit log: %w", err)
	}
	return p.ref, p.err
}
