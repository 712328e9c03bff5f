package rbac

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/policies"
)

// Recorder is the part of *audit.Log that an administrative change needs.
type Recorder interface {
	AppendDone(ctx context.Context, log string, e audit.Event, o audit.Outcome) (audit.Ref, error)
}

// Config is what an Engine needs.
type Config struct {
	DB        *database.DB // migrated
	Directory *identity.Directory
	Audit     Recorder
	// Log gets what goes wrong behind the back of any caller. Nil is nowhere.
	Log *slog.Logger
}

// Engine keeps the rules. It is safe for concurrent use.
type Engine struct {
	store     store
	db        *database.DB
	directory *identity.Directory
	audit     Recorder
	log       *slog.Logger
	policy    *policy

	current atomic.Pointer[Snapshot]
	// update is held by whoever makes the next snapshot, from reading the database to
	// publishing: so versions are published in order, each from what is committed.
	update sync.Mutex

	mu   sync.Mutex
	owed map[string]bool // organizations whose change is not in the rules yet

	retrying atomic.Bool
}

const (
	patience    = 10 * time.Second       // for reading the rules after a change
	pollEvery   = time.Second            // how soon a change by another process counts
	reloadEvery = 5 * time.Minute        // how soon one that a dying process never announced does
	retryEvery  = 100 * time.Millisecond // when the rules could not be read
	maxChanges  = 1000                   // more are read by reading everything
)

// Open reads the rules and returns an engine that follows every change of the
// directory from then on. In an installation of several processes somebody must call
// [Engine.Run].
func Open(ctx context.Context, config Config) (*Engine, error) {
	if config.DB == nil || config.Directory == nil || config.Audit == nil {
		return nil, errors.New("rbac: a database, a directory and an audit log are needed")
	}
	p, err := parsePolicy(policies.Permissions(), policies.Roles())
	if err != nil {
		return nil, fmt.Errorf("reading the default access policy: %w", err)
	}
	e := &Engine{
		store: store{config.DB}, db: config.DB, directory: config.Directory, audit: config.Audit,
		log: config.Log, policy: p, owed: make(map[string]bool),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.directory.OnChange(e.changed) // before reading, so that nothing falls between
	if err := e.dropLeft(ctx, ""); err != nil {
		return nil, fmt.Errorf("reading the access rules: %w", err)
	}
	if err := e.reload(ctx); err != nil {
		return nil, fmt.Errorf("reading the access rules: %w", err)
	}
	if err := e.refresh(); err != nil { // what changed since then
		return nil, fmt.Errorf("reading the access rules: %w", err)
	}
	return e, nil
}

// Snapshot returns the rules as they are now. A request takes one and decides
// everything by it.
func (e *Engine) Snapshot() *Snapshot {
	s := e.current.Load()
	if s.stale {
		e.retry()
	}
	return s
}

// Permissions returns the permissions of a role of the default policy
// ("organization-admin", "stack-read"), or nil for a role that does not exist.
func (e *Engine) Permissions(role string) []Permission {
	bit, list := roleNamed(role), []Permission(nil)
	for _, permission := range e.policy.order {
		if e.policy.holders[permission]&bit != 0 {
			list = append(list, permission)
		}
	}
	return list
}

// Known reports whether there is such a permission.
func (e *Engine) Known(permission Permission) bool {
	_, known := e.policy.holders[permission]
	return known
}

// Run takes over what other processes on the same database change, until ctx ends.
// It returns nil then. A failure is logged and tried again.
func (e *Engine) Run(ctx context.Context) error {
	poll, reload := time.NewTicker(pollEvery), time.NewTicker(reloadEvery)
	defer poll.Stop()
	defer reload.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			err = e.refresh()
		case <-reload.C:
			err = e.reload(ctx)
		}
		if err != nil && ctx.Err() == nil {
			e.log.Error("reading the access rules", "error", err)
		}
	}
}

// change runs fn, which touches what it changes, in a transaction, or in that of
// ctx. Once it has committed its changes count.
func (e *Engine) change(ctx context.Context, fn func(ctx context.Context) error) error {
	return e.db.Tx(ctx, func(ctx context.Context) error {
		if err := fn(ctx); err != nil {
			return err
		}
		e.db.AfterCommit(ctx, func() { e.follow() })
		return nil
	})
}

// follow brings the snapshot up to date after a commit. When that fails, whatever
// the commit has revoked must not be allowed any longer: everything is refused until
// the rules can be read.
func (e *Engine) follow() {
	if err := e.refresh(); err != nil {
		e.log.Error("reading the access rules", "error", err)
		e.suspend()
		e.retry()
	}
}

// suspend publishes a snapshot that refuses everything.
func (e *Engine) suspend() {
	e.update.Lock()
	defer e.update.Unlock()
	stale := *e.current.Load()
	stale.stale = true
	e.current.Store(&stale)
}

// retry tries in the background until the rules can be read. There is at most one at
// it, and it gives up after a while; the next request begins again.
func (e *Engine) retry() {
	if !e.retrying.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer e.retrying.Store(false)
		for range 50 {
			if e.refresh() == nil {
				return
			}
			time.Sleep(retryEvery)
		}
	}()
}

// changed is called by the directory after the commit of a change to an
// organization or its members, "" for any of them.
func (e *Engine) changed(organizationID string) {
	e.mu.Lock()
	e.owed[organizationID] = true
	e.mu.Unlock()
	if e.current.Load() == nil {
		return // Open reads it once it can
	}
	e.follow()
}

// refresh settles what is owed and brings the snapshot to the database's version.
func (e *Engine) refresh() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := e.settle(ctx); err != nil {
		return err
	}
	e.update.Lock()
	defer e.update.Unlock()
	return e.catchUp(ctx)
}

// settle makes a version of every change that the directory has told of.
func (e *Engine) settle(ctx context.Context) error {
	e.mu.Lock()
	owed := make([]string, 0, len(e.owed))
	for id := range e.owed {
		owed = append(owed, id)
	}
	clear(e.owed)
	e.mu.Unlock()
	slices.Sort(owed) // one order, so that two processes do not wait for each other
	for i, id := range owed {
		if err := e.dropLeft(ctx, id); err != nil {
			e.mu.Lock()
			for _, id := range owed[i:] {
				e.owed[id] = true
			}
			e.mu.Unlock()
			return err
		}
	}
	return nil
}

// dropLeft deletes the grants of those who have left an organization (all of them
// with ""), so that they do not come back with somebody who joins again, and touches
// what changed.
func (e *Engine) dropLeft(ctx context.Context, organizationID string) error {
	return e.db.Tx(ctx, func(ctx context.Context) error {
		if err := e.store.touch(ctx, touched{OrgID: organizationID}); err != nil {
			return err
		}
		rosters, err := e.rosters(ctx, organizationID)
		if err != nil {
			return err
		}
		for _, roster := range rosters {
			users, err := e.store.granted(ctx, roster.Organization.ID)
			if err != nil {
				return err
			}
			for _, user := range users {
				if _, member := roster.Roles[user]; member {
					continue
				}
				if err := e.dropUser(ctx, roster.Organization.ID, user); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// dropUser deletes a user's grants in an organization, unless the user is a member
// that is only disabled.
func (e *Engine) dropUser(ctx context.Context, organizationID, userID string) error {
	memberships, err := e.directory.Organizations(ctx, userID)
	if err != nil {
		return err
	}
	for _, m := range memberships {
		if m.Organization.ID == organizationID {
			return nil
		}
	}
	if err := e.store.touch(ctx, touched{OrgID: organizationID, UserID: userID}); err != nil {
		return err
	}
	return e.store.deleteUser(ctx, organizationID, userID)
}

func (e *Engine) rosters(ctx context.Context, organizationID string) ([]identity.Roster, error) {
	if organizationID == "" {
		return e.directory.AllMembers(ctx)
	}
	roster, err := e.directory.MembersOf(ctx, organizationID)
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	return []identity.Roster{roster}, err
}

// catchUp publishes the rules of the database's version, by reading what versions
// since the snapshot's have touched. The caller holds e.update.
func (e *Engine) catchUp(ctx context.Context) error {
	now := e.current.Load()
	var next *Snapshot
	err := e.db.ReadTx(ctx, func(ctx context.Context) error {
		version, err := e.store.version(ctx)
		if err != nil {
			return err
		}
		if version == now.version && !now.stale {
			next = now
			return nil
		}
		rows, err := e.store.since(ctx, now.version, maxChanges)
		if err != nil {
			return err
		}
		if now.version+int64(len(rows)) != version || now.stale || len(rows) == maxChanges ||
			slices.ContainsFunc(rows, func(r changeRow) bool { return r.touched() == touched{} }) {
			next, err = e.compileAll(ctx, version)
			return err
		}
		changes, err := e.readAgain(ctx, now, rows)
		if err != nil {
			return err
		}
		next = now.with(version, changes)
		return nil
	})
	if err != nil {
		return err
	}
	e.current.Store(next)
	return nil
}

// readAgain reads each thing that rows touch once.
func (e *Engine) readAgain(ctx context.Context, now *Snapshot, rows []changeRow) ([]change, error) {
	var changes []change
	seen := make(map[touched]bool, len(rows))
	for _, row := range rows {
		if seen[row.touched()] {
			continue
		}
		seen[row.touched()] = true
		c := change{touched: row.touched()}
		var err error
		switch {
		case c.Project != "":
			c.grants, err = e.store.grantsOfStack(ctx, c.OrgID, c.Project, c.Stack)
		case c.UserID != "":
			c.grants, err = e.store.grantsOfUser(ctx, c.OrgID, c.UserID)
		default:
			err = e.readOrganization(ctx, now, &c)
		}
		if err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, nil
}

func (e *Engine) readOrganization(ctx context.Context, now *Snapshot, c *change) error {
	rosters, err := e.rosters(ctx, c.OrgID)
	if err != nil || len(rosters) == 0 {
		return err
	}
	c.found, c.roster = true, rosters[0]
	if c.defaults, err = e.store.defaults(ctx, c.OrgID); err != nil {
		return err
	}
	if _, known := now.byID[c.OrgID]; !known {
		c.grants, err = e.store.grantsOfOrganization(ctx, c.OrgID)
	}
	return err
}

// reload publishes the rules as they are, all of them read again.
func (e *Engine) reload(ctx context.Context) error {
	e.update.Lock()
	defer e.update.Unlock()
	return e.db.ReadTx(ctx, func(ctx context.Context) error {
		version, err := e.store.version(ctx)
		if err != nil {
			return err
		}
		next, err := e.compileAll(ctx, version)
		if err != nil {
			return err
		}
		e.current.Store(next)
		return nil
	})
}

func (e *Engine) compileAll(ctx context.Context, version int64) (*Snapshot, error) {
	r, err := e.rules(ctx, version)
	if err != nil {
		return nil, err
	}
	return compile(e.policy, r), nil
}

// rules reads all rules, in the transaction of ctx.
func (e *Engine) rules(ctx context.Context, version int64) (rules, error) {
	r := rules{version: version}
	var err error
	if r.rosters, err = e.directory.AllMembers(ctx); err != nil {
		return rules{}, err
	}
	if r.defaults, err = e.store.defaults(ctx, ""); err != nil {
		return rules{}, err
	}
	r.grants, err = e.store.grants(ctx)
	return r, err
}
