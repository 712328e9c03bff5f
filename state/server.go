// Package state is a Pulumi-compatible state service: stacks, updates, journals,
// checkpoints, history and secrets, served as an [http.Handler] below /api.
//
// # Who may call
//
// Nobody but a gate. Every request other than GET /api/capabilities carries an
// assertion (internal/assertion) of who is calling, or it is answered with 401. The
// service decides nothing about permissions; it takes the author of an update from
// the assertion, and the right to write to a running update from its lease token.
//
// # An update
//
// Any number of updates may be created. Starting one that is not a preview takes the
// stack: it gets the next version number, a lease, and the stack's current deployment
// as its base, which every reader of the stack sees until the update has ended. The
// engine then sends a journal, or whole checkpoints. However the update ends
// (completed, cancelled, lease expired, server crashed), it passes through one
// procedure, see finalise.go, that computes the new deployment from everything that
// was acknowledged.
//
// # Names
//
// A stack can be renamed, its ID stays. Files written before a rename still carry the
// former name, so decrypt, encrypt and export answer under it, until a new stack takes
// it. Such an answer has the current name in the header Ipuka-Stack, and so has the
// 404 to reading the stack under a former name: a gate can ask there which stack a
// request is about before it decides.
//
// # What is promised
//
// What has been answered with a status below 300 is durable. A new deployment is in
// the bucket before the database points to it, and the database points to it before
// the caller hears of it. Exactly one update writes to a stack at a time, and what it
// wrote cannot reach the stack after another one has started. Version numbers only
// grow and are never used twice, nor is the ID of a stack, to which its secrets are
// bound. Lease expiry is judged by one clock, the database's.
package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/secrets"
	"golang.org/x/sync/singleflight"

	"github.com/ipuka/ipuka/internal/assertion"
	"github.com/ipuka/ipuka/internal/database"
)

// Config says what a [Server] works with. DB, Bucket, Keeper and Verifier are
// required, and DB must have been migrated with [Migrations].
type Config struct {
	DB       *database.DB
	Bucket   *blob.Bucket    // deployments; used by this service only
	Keeper   *secrets.Keeper // the master key, which wraps the stacks' data keys
	Verifier *assertion.Verifier
	Log      *slog.Logger     // nil logs to slog.Default
	Now      func() time.Time // nil takes the clock of the database
	Lease    time.Duration    // how long a lease holds without renewal, 0 is ten minutes; clients count on five
}

const (
	defaultLease    = 10 * time.Minute
	longestRenewal  = 5 * time.Minute // what a client may ask for
	unstartedTTL    = time.Hour       // how long an update may wait for its start
	sweepInterval   = 30 * time.Second
	finaliseTimeout = 5 * time.Minute
)

// Server is the state service. It is safe for concurrent use, and several servers may
// work on one database and bucket.
type Server struct {
	store       store
	deployments deployments
	keys        *keyring
	verifier    *assertion.Verifier
	log         *slog.Logger
	clock       *clock
	lease       time.Duration
	mux         *http.ServeMux
	ending      singleflight.Group
}

// Open returns a server. It refuses a master key that is not the one the database was
// first used with, before anything is written, and it finishes updates whose end was
// interrupted, so that a stack is not locked by a crash.
func Open(ctx context.Context, c Config) (*Server, error) {
	if c.DB == nil || c.Bucket == nil || c.Keeper == nil || c.Verifier == nil {
		return nil, errors.New("state service: a database, a bucket, a master key and a verifier are needed")
	}
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	if c.Lease < 0 {
		return nil, fmt.Errorf("state service: a lease cannot last %s", c.Lease)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Server{
		store:       store{c.DB},
		deployments: deployments{c.Bucket},
		keys:        newKeyring(c.Keeper),
		verifier:    c.Verifier,
		log:         c.Log,
		clock:       &clock{db: c.DB, fixed: c.Now},
		lease:       c.Lease,
	}
	if err := s.keys.check(ctx, s.store); err != nil {
		return nil, err
	}
	s.mux = s.routes()
	s.sweep(ctx)
	return s, nil
}

// Run ends updates whose lease has expired, drops updates that were never started and
// empties the bucket of what nothing points to, until ctx is done. Whatever a request
// needs is done by the request, so a server that does not run this is correct, only
// untidy.
func (s *Server) Run(ctx context.Context) {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.sweep(ctx)
		}
	}
}
