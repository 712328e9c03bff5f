package identity

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// ErrWithdrawn is what [Connector.Recheck] returns when the provider does not let
// somebody in any more.
var ErrWithdrawn = errors.New("the provider does not let this person in any more")

// RecheckEvery is how soon somebody who has lost their place at a provider loses it
// here, when nobody says so earlier: within twice this time while the provider
// answers. A provider that does not answer for RecheckGrace counts as one that has
// let them go: their sessions of this connector end.
const (
	RecheckEvery = 15 * time.Minute
	RecheckGrace = 24 * time.Hour
)

const (
	recheckPoll    = 3 * time.Minute
	recheckBatch   = 200
	recheckWorkers = 4
	recheckTimeout = 30 * time.Second
	// recheckStrikes are the failures in a row after which a provider counts as down
	// for the rest of a round: whoever else is due there is not asked about, so that
	// nobody of another provider waits.
	recheckStrikes = 3
)

// RunRechecks asks the providers again about everybody with a credential and a
// session or token that is good, until ctx ends. Replicas share the work. Without a
// Box there are no credentials, and it only waits. A failure of the database does
// not stop it: the next turn tries again.
func (d *Directory) RunRechecks(ctx context.Context, connectors Connectors) error {
	if d.box == nil {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(recheckPoll)
	defer ticker.Stop()
	for {
		_ = d.recheckAll(ctx, connectors)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// recheckAll is one round.
func (d *Directory) recheckAll(ctx context.Context, connectors Connectors) error {
	r := &round{d: d, connectors: connectors, strikes: make(map[string]int)}
	for {
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		due, err := d.store.dueIdentities(ctx, now, recheckBatch)
		if err != nil {
			return err
		}
		if err := r.all(ctx, due); err != nil || len(due) < recheckBatch {
			return err
		}
	}
}

// round is one turn at the identities that are due.
type round struct {
	d          *Directory
	connectors Connectors

	mu      sync.Mutex
	strikes map[string]int // failures in a row, by connector
}

// all asks about a batch, a few at a time. Failures of the database are returned, and
// leave the others of the batch to be asked.
func (r *round) all(ctx context.Context, due []identityRow) error {
	work := make(chan identityRow)
	var failed error
	var mu sync.Mutex
	var group sync.WaitGroup
	for range min(recheckWorkers, len(due)) {
		group.Go(func() {
			for row := range work {
				if err := r.one(ctx, row); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, row := range due {
		if ctx.Err() != nil {
			break
		}
		work <- row
	}
	close(work)
	group.Wait()
	return errors.Join(failed, ctx.Err())
}

// one asks about one identity, unless another replica does.
func (r *round) one(ctx context.Context, row identityRow) error {
	now, err := r.d.store.clock(ctx)
	if err != nil {
		return err
	}
	mine, err := r.d.store.claimIdentity(ctx, row, now)
	if err != nil || !mine {
		return err
	}
	row.Checked = database.Micros(now)
	c, x, err := r.ask(ctx, row)
	switch {
	case ctx.Err() != nil:
		return ctx.Err() // we are stopping, which is no answer
	case errors.Is(err, ErrWithdrawn):
		return r.d.withdraw(ctx, c, row)
	case err != nil:
		if err := r.d.keepCredential(ctx, row, x.Credential); err != nil {
			return err
		}
		return r.d.unanswered(ctx, c, row, now)
	}
	return r.d.answered(ctx, c, row, x)
}

var errDown = errors.New("identity: the provider has just failed to answer")

func (r *round) ask(ctx context.Context, row identityRow) (ConnectorInfo, External, error) {
	c := ConnectorInfo{Name: row.Connector}
	if r.struck(row.Connector, 0) >= recheckStrikes {
		return c, External{}, errDown
	}
	connector, err := r.connectors.Find(ctx, row.Connector)
	if err != nil {
		return c, External{}, err
	}
	c = connector.Info()
	i := Identity{Connector: row.Connector, Subject: row.Subject}
	credential, err := r.d.box.Open(row.Credential, sealContext(i))
	if err != nil {
		return c, External{}, err // sealed with another key: as good as no answer
	}
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	x, err := connector.Recheck(ctx, row.Subject, credential)
	if err == nil && x.Subject != row.Subject {
		err = errors.New("identity: the provider has answered about somebody else")
	}
	if err != nil && !errors.Is(err, ErrWithdrawn) {
		r.struck(row.Connector, 1)
		r.d.health.failed(row.Connector, r.d.wallClock(), errs.Public(err))
		return c, External{Credential: x.Credential}, err
	}
	r.struck(row.Connector, -1)
	return c, x, err
}

// struck counts a failure (1), forgets them all (-1) or only looks (0).
func (r *round) struck(connector string, change int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch change {
	case 1:
		r.strikes[connector]++
	case -1:
		r.strikes[connector] = 0
	}
	return r.strikes[connector]
}

// unanswered leaves somebody in about whom a provider could not be asked, but not for
// longer than RecheckGrace.
func (d *Directory) unanswered(ctx context.Context, c ConnectorInfo, row identityRow, now time.Time) error {
	if now.Sub(database.Time(row.Answered)) < RecheckGrace {
		return nil
	}
	return d.db.Tx(ctx, func(ctx context.Context) error {
		user, err := d.store.user(ctx, row.UserID)
		if err != nil {
			return err
		}
		ended, err := d.store.endSessionsOf(ctx, row.UserID, row.Connector, now)
		if err != nil || ended == 0 {
			return err
		}
		return d.record(ctx, audit.Site, byItself(c, audit.Event{
			Name: "session-ended", Object: "user:" + user.Login,
			Description: "Ended the sessions of " + user.Login + " that began with a provider that has not answered for a day",
			Details:     facts("sessions_ended", count(int(ended))),
		}))
	})
}

// keepCredential stores a new credential before anything else and whatever comes of
// the rest: the provider may have made the old one worthless.
func (d *Directory) keepCredential(ctx context.Context, row identityRow, credential []byte) error {
	sealed := d.seal(Identity{Connector: row.Connector, Subject: row.Subject}, credential)
	if sealed == nil {
		return nil
	}
	return d.store.replaceCredential(ctx, row, sealed)
}

// answered applies what a provider has said.
func (d *Directory) answered(ctx context.Context, c ConnectorInfo, row identityRow, x External) error {
	i := Identity{Connector: row.Connector, Subject: row.Subject}
	if err := d.keepCredential(ctx, row, x.Credential); err != nil {
		return err
	}
	x.Credential = nil
	x, _, err := checkedExternal(c, x)
	if err != nil {
		return err
	}
	return d.insist(ctx, c, func(ctx context.Context) error {
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		current, err := d.store.recheckAnswered(ctx, row, answer{login: x.Login, email: x.Email, groups: x.Groups}, now)
		if err != nil || !current {
			return err
		}
		user, _, elsewhere, err := d.store.userWithIdentity(ctx, i)
		if err != nil {
			return err
		}
		var t trail
		if !elsewhere && user.ManagedBy == c.OrganizationID {
			if user, err = d.followProfile(ctx, &t, c, user, x); err != nil {
				return err
			}
		}
		if err := d.follow(ctx, &t, following{c: c, user: user, subject: i.Subject, groups: x.Groups, now: now}); err != nil {
			return err
		}
		return d.finish(ctx, t)
	})
}

// withdraw ends what somebody had from a provider that does not let them in any more:
// the sessions that began with it and the memberships that came from it. Without
// another way to sign in the account is disabled, tokens included, until the provider
// lets them in again. That goes for the last administrator too: whoever has left must
// be kept out.
func (d *Directory) withdraw(ctx context.Context, c ConnectorInfo, row identityRow) error {
	return d.insist(ctx, c, func(ctx context.Context) error {
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		current, err := d.store.withdrawIdentity(ctx, row, now)
		if err != nil || !current {
			return err
		}
		user, err := d.store.lockUser(ctx, row.UserID)
		if err != nil {
			return err
		}
		ended, err := d.store.endSessionsOf(ctx, user.ID, row.Connector, now)
		if err != nil {
			return err
		}
		var t trail
		t.add(audit.Site, byItself(c, audit.Event{
			Name: "user-identity-withdrawn", Object: "user:" + user.Login,
			Description: "The provider does not let " + user.Login + " in any more",
			Before:      facts("connector", row.Connector),
			Details:     facts("sessions_ended", count(int(ended))),
		}))
		if err := d.follow(ctx, &t, following{c: c, user: user, subject: row.Subject, gone: true, now: now}); err != nil {
			return err
		}
		rows, err := d.store.identityRows(ctx, user.ID)
		if err != nil {
			return err
		}
		if usable(rows, nil) == 0 && user.Disabled.IsZero() {
			if err := d.shutOut(ctx, &t, user, byConnector(row.Connector), now); err != nil {
				return err
			}
			t.add(audit.Site, byItself(c, audit.Event{
				Name: "user-disabled", Object: "user:" + user.Login,
				Description: "Disabled user " + user.Login + ", whom no provider lets in any more",
			}))
		}
		return d.finish(ctx, t)
	})
}

// shutOut refuses all credentials of a user on behalf of a provider.
func (d *Directory) shutOut(ctx context.Context, t *trail, user User, by string, now time.Time) error {
	if err := d.store.endSessions(ctx, user.ID, now); err != nil {
		return err
	}
	t.touch(user.ManagedBy) // it is in no other organization, or it may be in any
	return d.store.setDisabled(ctx, user.ID, now, by)
}
