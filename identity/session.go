package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// The life of a session. A request moves the idle limit on, at most once in
// TouchEvery; nothing moves the absolute one.
const (
	IdleTimeout     = 12 * time.Hour
	AbsoluteTimeout = 7 * 24 * time.Hour
	TouchEvery      = time.Minute
)

// Session is one signed-in browser.
type Session struct {
	ID                string // public; not the secret
	Connector         string // how the user signed in
	Created, LastSeen time.Time
	Expires           time.Time // at the latest; see [IdleTimeout]
	Address           string    // of the sign-in
	UserAgent         string
}

// sessionSecretLength is 32 bytes in base64url.
const sessionSecretLength = 43

// CreateSession begins a session of a user whom a connector has just authenticated,
// and returns its secret, which is not to be had again. Every sign-in makes a new
// one: a secret that the browser brought along is never adopted. A disabled user is
// refused with a [Refusal].
func (d *Directory) CreateSession(ctx context.Context, userID, connector string) (string, Session, error) {
	var secret string
	var s Session
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		user, generation, err := d.store.userGeneration(ctx, userID)
		if err != nil {
			return err
		}
		p := user.Principal(connector)
		if !user.Disabled.IsZero() {
			return refuseSession(UserDisabled, p)
		}
		if err := d.store.setUsed(ctx, userID, connector, now); err != nil {
			return err
		}
		if secret, s, err = d.beginSession(ctx, user, generation, connector, now, time.Time{}); err != nil {
			return err
		}
		p.SessionID = s.ID
		return d.record(ctx, audit.Site, p.Event(loginEvent(user)))
	})
	if err != nil {
		return "", Session{}, err
	}
	return secret, s, nil
}

func loginEvent(user User) audit.Event {
	return audit.Event{Name: "user-login", Object: "user:" + user.Login, Description: user.Login + " signed in"}
}

// beginSession begins a session that ends at until when that is set and earlier than
// usual. The generation is the one that user was read with.
func (d *Directory) beginSession(ctx context.Context, user User, generation int64, connector string, now, until time.Time) (string, Session, error) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the program first
	secret := base64.RawURLEncoding.EncodeToString(raw)
	hash := sha256.Sum256([]byte(secret))
	request := httpapi.RequestOf(ctx)
	s := Session{
		ID: uuid.NewString(), Connector: connector, Created: now, LastSeen: now, Expires: now.Add(AbsoluteTimeout),
		Address: request.Address, UserAgent: request.UserAgent,
	}
	if !until.IsZero() && until.Before(s.Expires) {
		s.Expires = until.UTC().Truncate(time.Microsecond)
	}
	return secret, s, d.store.insertSession(ctx, s, user.ID, hash[:], generation)
}

func refuseSession(reason string, p Principal) error {
	return Refuse(reason, p, "you are not signed in, or no longer: sign in again")
}

// AuthenticateSession returns the caller whose session has the given secret. The
// error is a [Refusal] (errs.Unauthenticated), or errs.Unavailable when the database
// cannot say. It is one indexed read, and at most once a minute an update.
func (d *Directory) AuthenticateSession(ctx context.Context, secret string) (Principal, error) {
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(secret); err != nil || len(raw) != 32 || len(secret) != sessionSecretLength {
		return Principal{}, refuseSession(SessionMalformed, Principal{})
	}
	hash := sha256.Sum256([]byte(secret))
	row, found, err := d.store.sessionByHash(ctx, hash[:])
	if err != nil {
		return Principal{}, err
	}
	if !found {
		return Principal{}, refuseSession(SessionUnknown, Principal{})
	}
	p := row.Owner.principal()
	p.SessionID, p.Connector, p.SignedIn = row.SessionID, row.Connector, database.Time(row.Created)
	switch {
	case row.Owner.Disabled != 0:
		return Principal{}, refuseSession(UserDisabled, p)
	case row.Ended != 0 || row.SessionGeneration != row.Owner.Generation:
		return Principal{}, refuseSession(SessionEnded, p)
	case row.Owner.Now >= row.Expires || row.Owner.Now >= row.LastSeen+IdleTimeout.Microseconds():
		return Principal{}, refuseSession(SessionExpired, p)
	}
	if row.Owner.Now >= row.LastSeen+TouchEvery.Microseconds() {
		// The update matches only a session that has not ended, so a request under way
		// can neither bring one back nor go on with it. A failure to write leaves the
		// session to end early, which is no reason to refuse a reader.
		if alive, err := d.store.touchSession(ctx, row.SessionID, row.Owner.Now); err == nil && !alive {
			return Principal{}, refuseSession(SessionEnded, p)
		}
	}
	return p, nil
}

// Sessions returns the sessions of a user that have neither ended nor expired, the
// newest first.
func (d *Directory) Sessions(ctx context.Context, userID string) ([]Session, error) {
	return d.store.sessions(ctx, userID)
}

// EndSession signs p out: its session is worthless from the next request on. Without
// a session, or with one that has ended, it does nothing.
func (d *Directory) EndSession(ctx context.Context, p Principal) error {
	err := d.endSession(ctx, p, p.SessionID, "user-logout", p.Login+" signed out")
	if errs.KindOf(err) == errs.NotFound {
		return nil
	}
	return err
}

// RevokeSession ends another session of p's user, by its public ID; errs.NotFound
// when the user has no such session that is still going on.
func (d *Directory) RevokeSession(ctx context.Context, p Principal, id string) error {
	return d.endSession(ctx, p, id, "session-ended", "Ended a session of "+p.Login)
}

func (d *Directory) endSession(ctx context.Context, p Principal, id, event, description string) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		ended, err := d.store.endSession(ctx, p.UserID, id, now)
		if err != nil {
			return err
		}
		if !ended {
			return errs.Errorf(errs.NotFound, "there is no such session")
		}
		return d.record(ctx, audit.Site, p.Event(audit.Event{Name: event, Object: "session:" + id, Description: description}))
	})
}

// EndSessions ends all sessions of a user, those included that are being begun at
// the same moment. It leaves the user's access tokens alone.
func (d *Directory) EndSessions(ctx context.Context, actor Principal, userID string) error {
	return d.db.Tx(ctx, func(ctx context.Context) error {
		user, err := d.store.user(ctx, userID)
		if err != nil {
			return err
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		if err := d.store.endSessions(ctx, userID, now); err != nil {
			return err
		}
		return d.record(ctx, audit.Site, actor.Did(audit.Event{
			Name: "session-ended", Object: "user:" + user.Login, Description: "Ended all sessions of " + user.Login,
		}))
	})
}

// sweepBatch bounds the rows that one statement of a sweep deletes, so that nobody
// waits long for it.
const sweepBatch = 1000

// Sweep deletes the sessions that have expired, and those that ended longer than
// [IdleTimeout] ago, the consumed keys that have been forgotten and the single
// sign-ons that are over, in batches; it returns how many.
func (d *Directory) Sweep(ctx context.Context) (int64, error) {
	now, err := d.store.clock(ctx)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, sweep := range []func(context.Context, int64, int) (int64, error){
		d.store.sweepSessions, d.store.sweepConsumed, d.store.sweepSSO,
	} {
		for {
			n, err := sweep(ctx, database.Micros(now), sweepBatch)
			total += n
			if err != nil {
				return total, err
			}
			if n < sweepBatch {
				break
			}
		}
	}
	return total, nil
}
